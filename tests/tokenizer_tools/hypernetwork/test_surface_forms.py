"""Surface forms: the pieces of the source tokenizer, bytes that it cannot spell, truncation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from vocabulary_kinds import KINDS, unigram

from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, from_pieces, surface_forms
from tokenizer_tools.vocabulary import read_vocabulary

SURFACES = [b" heart", b"hearts of", b" ", "äther".encode(), "心臓".encode(), b"\xff\xfe", b"the" * 9]


def spelt(forms: SurfaceForms) -> list[list[int]]:
    return [ids[mask].tolist() for ids, mask in zip(forms.ids_NL, forms.mask_NL, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_those_of_the_source_tokenizer(kind: str, tmp_path: Path) -> None:
    source = read_vocabulary(KINDS[kind](tmp_path))
    size = len(source.tokens)
    forms = surface_forms(source, SURFACES, 60)
    for surface, ids in zip(SURFACES, spelt(forms), strict=True):
        assert ids == (source.segment(surface) or [size + byte for byte in surface])
    assert forms.ids_NL.dtype == torch.int64
    assert forms.truncated == 0


@pytest.mark.parametrize("one_word", [False, True])
def test_words_are_cut_unless_there_is_one(one_word: bool, tmp_path: Path) -> None:
    source = read_vocabulary(KINDS["byte-level BPE"](tmp_path))
    forms = surface_forms(source, [b"hearts of"], 20, one_word=one_word)
    assert spelt(forms) == source.segment_all([b"hearts of"], one_word=one_word)


def test_a_source_without_bytes_spells_others_by_fallback_rows(tmp_path: Path) -> None:
    source = read_vocabulary(unigram(tmp_path))
    size = len(source.tokens)
    forms = surface_forms(source, ["☃".encode(), b" heart", bytes(range(250, 256))], 4)
    assert spelt(forms) == [
        [size + 0xE2, size + 0x98, size + 0x83],
        source.segment(b" heart"),
        [size + byte for byte in range(250, 254)],
    ]
    assert forms.truncated == 1


def test_truncated_tokens_keep_their_first_pieces_and_are_counted() -> None:
    forms = from_pieces([[1, 2, 3], [4], [5, 6, 7, 8], [9, 10]], [b"a"] * 4, 20, 3)
    assert forms.ids_NL.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 7], [9, 10, 0]]
    assert forms.mask_NL.sum(1).tolist() == [3, 1, 3, 2]
    assert forms.truncated == 1


def test_no_tokens_and_no_text() -> None:
    assert from_pieces([], [], 20, 3).ids_NL.shape == (0, 3)
    with pytest.raises(ValueError, match="no surface form"):
        from_pieces([[1]], [b""], 20, 3)
