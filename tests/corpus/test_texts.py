"""Samples of passages: many documents in few tokens, short documents whole, words that are not cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cpt.corpus.documents import Document, DocumentWriter, documents_path
from cpt.corpus.texts import heldout_texts, passage, passages, shuffled
from cpt.models.encoding import token_ids
from cpt.models.tokenizer import load_tokenizer


def made(count: int, words: int, seed: int = 0) -> list[str]:
    """Make documents, each of words that occur in no other."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"d{number}w{each}" for each in rng.integers(0, 999, words)) for number in range(count)]


def tokens_of(texts: Sequence[str], folder: Path) -> list[int]:
    return [len(ids) for ids in token_ids(load_tokenizer(folder), list(texts))]


def test_of_long_documents_many_are_read(model_folder: Path) -> None:
    documents = made(60, 900)
    found = passages(documents, [model_folder], 6_000, 3)
    assert len(found) >= 31
    assert sum(tokens_of(found, model_folder)) <= 6_000
    assert sum(tokens_of(found, model_folder)) >= 0.9 * 6_000
    whole = list(shuffled(documents, 3))
    for text, document in zip(found, whole, strict=False):
        assert f" {text} " in f" {document} "  # whole words, one passage of each document in order
    places = [document.index(text) / len(document) for text, document in zip(found, whole, strict=False)]
    assert min(places) < 0.1
    assert max(places) > 0.8


def test_short_documents_are_read_whole(model_folder: Path) -> None:
    documents = made(60, 5)
    assert passages(documents, [model_folder], 10_000, 3) == list(shuffled(documents, 3))


def test_few_documents_share_the_tokens(model_folder: Path) -> None:
    documents = made(4, 900)
    lengths = tokens_of(passages(documents, [model_folder], 4_000, 3), model_folder)
    assert len(lengths) == 4
    assert all(abs(length - 1_000) < 100 for length in lengths)


def test_a_passage_has_64_tokens_at_least(model_folder: Path) -> None:
    lengths = tokens_of(passages(made(60, 900), [model_folder], 200, 3), model_folder)
    assert len(lengths) in (2, 3, 4)
    assert all(45 <= length <= 75 for length in lengths)


@pytest.mark.parametrize("tokens", [1, 100, 2_500, 100_000])
def test_texts_by_number_give_those_of_the_list(tmp_path: Path, model_folder: Path, tokens: int) -> None:
    documents = made(20, 40) + made(20, 400, seed=1)
    with DocumentWriter(documents_path(tmp_path, "domain", "heldout")) as writer:
        for number, text in enumerate(documents):
            writer.write(Document(str(number), text))
    found = passages(heldout_texts(tmp_path, "domain"), [model_folder], tokens, 3)
    assert found == passages(documents, [model_folder], tokens, 3)
    assert found != passages(documents, [model_folder], tokens, 4)
    assert (len(found) == len(documents)) == (tokens == 100_000)


def test_documents_without_two_tokens_are_skipped(model_folder: Path) -> None:
    assert passages(["", "x", "fever and cough"], [model_folder], 100, 0) == ["fever and cough"]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.77, 1.0])
def test_a_passage_is_of_whole_words(place: float) -> None:
    (text,) = made(1, 200)
    found = passage(text, 300, place)
    assert f" {found} " in f" {text} "
    assert 200 <= len(found) <= 300


def test_a_passage_without_spaces_is_cut_anywhere() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(500))
    assert passage(text, 100, 0.5) == text[200:300]
    assert passage(text, 100, 1.0) == text[400:]
