"""Any tokenizer's tokens as bytes, and any bytes as its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from vocabulary_kinds import (
    KINDS,
    TEXTS,
    add_tokens,
    byte_level,
    save,
    sentence_piece_bpe,
    unigram,
    word_piece,
)

from cpt.errors import DataError
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

LLAMA_3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def spelt(vocabulary: Vocabulary, surface: bytes) -> list[str | None]:
    return [vocabulary.tokens[token_id] for token_id in vocabulary.segment(surface)]


def surface(vocabulary: Vocabulary, token: str) -> bytes | None:
    return vocabulary.surfaces[list(vocabulary.tokens).index(token)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_is_of_its_kind(tmp_path: Path, kind: str) -> None:
    vocabulary = read_vocabulary(KINDS[kind](tmp_path))
    assert vocabulary.kind == kind
    assert len(vocabulary.tokens) == len(vocabulary.surfaces) == vocabulary.tokenizer.get_vocab_size()
    for content, token_id in vocabulary.special.items():
        assert vocabulary.tokens[token_id] == content
        assert vocabulary.surfaces[token_id] is None
    assert sum(found is None for found in vocabulary.surfaces) == len(vocabulary.special)


@pytest.mark.parametrize(
    ("kind", "surfaces"),
    [
        ("byte-level BPE", {"Ġthe": b" the", "Ġ": b" ", "Ċ": b"\n", "ÿ": b"\xff", "a": b"a"}),
        ("SentencePiece BPE", {"▁the": b" the", "▁▁": b"  ", "<0x0A>": b"\n", "<0xFF>": b"\xff", "a": b"a"}),
        ("Unigram", {"▁heart": b" heart", "heart": b"heart", "▁": b" ", "ä": "ä".encode()}),
        ("WordPiece", {"heart": b" heart", "##art": b"art", ",": b",", "心": "心".encode(), "a": b" a"}),
    ],
)
def test_surfaces_are_the_bytes_of_text(tmp_path: Path, kind: str, surfaces: dict[str, bytes]) -> None:
    vocabulary = read_vocabulary(KINDS[kind](tmp_path))
    assert {token: surface(vocabulary, token) for token in surfaces} == surfaces


@pytest.mark.parametrize(
    "write",
    [
        byte_level,
        lambda folder: byte_level(folder, pattern=LLAMA_3),
        lambda folder: byte_level(folder, add_prefix_space=True),
        sentence_piece_bpe,
        lambda folder: sentence_piece_bpe(folder, scheme="first"),
        lambda folder: sentence_piece_bpe(folder, scheme="always"),
        lambda folder: sentence_piece_bpe(folder, scheme="never"),
    ],
)
def test_bytes_and_tokens_correspond(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """Tokens of any bytes stand for these very bytes, and a token that text is given is its own segment."""
    vocabulary = read_vocabulary(write(tmp_path))
    surfaces = [text.encode() for text in TEXTS]
    surfaces += [surface[start : start + 5] for surface in surfaces for start in range(0, len(surface), 3)]
    surfaces += [bytes([byte]) for byte in range(256)]
    surfaces += [b"\xf0\x9f heart\xff", b" \xe2\x80", b"\xc3\xa4\xc3"]
    for given in surfaces:
        assert b"".join(vocabulary.surfaces[i] or b"?" for i in vocabulary.segment(given)) == given
    for text in TEXTS:
        for token_id in vocabulary.segment(text.encode()):
            assert vocabulary.segment(vocabulary.surfaces[token_id] or b"?") == [token_id]


def test_a_surface_is_cut_into_words_as_text_is(tmp_path: Path) -> None:
    """Segments are those of the tokenizer itself, its words and digits included."""
    folder = byte_level(tmp_path, pattern=r"\p{N}| ?[^\s\p{N}]+|\s+")
    vocabulary, tokenizer = read_vocabulary(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in [*TEXTS, " of the", "1234", "the  heart"]:
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert vocabulary.segment(text.encode()) == expected
    words = vocabulary.tokenizer.model.tokenize("1234")
    assert vocabulary.segment_all([b"1234"], one_word=True) == [[token.id for token in words]]


def test_no_space_is_added_in_front(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(sentence_piece_bpe(tmp_path))
    assert spelt(vocabulary, b" heart") == ["▁heart"]
    assert spelt(vocabulary, b"heart") == ["he", "ar", "t"]
    assert spelt(vocabulary, b"  heart") == ["▁", "▁heart"]
    assert spelt(vocabulary, b"") == []


def test_bytes_without_a_piece_fall_back(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(sentence_piece_bpe(tmp_path))
    assert spelt(vocabulary, " ö".encode()) == ["▁", "<0xC3>", "<0xB6>"]
    assert spelt(vocabulary, b" he\xc3\xff") == ["▁he", "<0xC3>", "<0xFF>"]


@pytest.mark.parametrize("white_space_split", [False, True])
def test_unigram_keeps_the_words_start_and_cannot_spell_what_has_no_piece(
    tmp_path: Path, white_space_split: bool
) -> None:
    vocabulary = read_vocabulary(unigram(tmp_path, white_space_split=white_space_split))
    assert spelt(vocabulary, b" heart") == ["▁heart"]
    assert spelt(vocabulary, b"hearts") == ["heart", "s"]
    assert spelt(vocabulary, b" the heart ") == ["▁the", "▁heart", "▁"]
    assert spelt(vocabulary, b" the \xff") == []
    assert spelt(vocabulary, " the 肝".encode()) == []
    assert spelt(vocabulary, b"<s>") == [], "the text is not the special token"


def test_word_piece_continues_a_word_unless_it_starts_with_a_space(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(word_piece(tmp_path))
    assert spelt(vocabulary, b" hearts") == ["heart", "##s"]
    assert spelt(vocabulary, b"hearts") == ["##he", "##art", "##s"]
    assert spelt(vocabulary, b" Heart of") == ["heart", "of"]
    assert spelt(vocabulary, "the, the心Á".encode()) == ["##t", "##he", ",", "the", "心", "a"]
    assert spelt(vocabulary, b",") == spelt(vocabulary, b" ,") == [","]
    assert spelt(vocabulary, b"heartz") == spelt(vocabulary, b"the \xff") == spelt(vocabulary, b"\n") == []


def test_added_tokens_are_plain_text_unless_special(tmp_path: Path) -> None:
    folder = add_tokens(byte_level(tmp_path), "   ", "Ödem")
    vocabulary = read_vocabulary(add_tokens(folder, "<|end|>", special=True))
    assert surface(vocabulary, "   ") == b"   "
    assert surface(vocabulary, "Ödem") == "Ödem".encode()
    assert surface(vocabulary, "<|end|>") is None
    assert vocabulary.special["<|end|>"] == len(vocabulary.tokens) - 1
    assert spelt(vocabulary, "the Ödem".encode())[-1] == "Ödem"
    assert "<|end|>" not in spelt(vocabulary, b"<|end|>")
    assert vocabulary.tokenizer.encode("<|end|>").tokens == spelt(vocabulary, b"<|end|>")


def test_roles_come_from_the_configuration(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    config = {"eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None, "unk_token": "<absent>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<s>", "mask_token": "the"}')
    vocabulary = read_vocabulary(folder)
    assert vocabulary.roles == {"bos": 0, "eos": 1, "mask": vocabulary.tokenizer.token_to_id("the")}
    assert vocabulary.special == {"<s>": 0, "</s>": 1}, "an ordinary token stays text whatever its role"
    assert surface(vocabulary, "the") == b"the"


def test_unused_ids_have_no_token(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {token: i + 3 * (i > 300) for token, i in data["model"]["vocab"].items()}
    data["model"]["vocab"] = vocabulary
    (folder / "tokenizer.json").write_text(json.dumps(data))
    found = read_vocabulary(folder)
    assert [token_id for token_id, token in enumerate(found.tokens) if token is None] == [301, 302, 303]
    assert found.surfaces[301] is None


def test_unigram_of_bytes(tmp_path: Path) -> None:
    """A Unigram model over GPT-2's alphabet is of the kind Unigram and spells as byte-level BPE does."""
    pieces = [(character, -8.0) for character in pre_tokenizers.ByteLevel.alphabet()] + [("Ġheart", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = read_vocabulary(save(tokenizer, tmp_path))
    assert vocabulary.kind == "Unigram"
    assert spelt(vocabulary, b" heart\n") == ["Ġheart", "Ċ"]
    assert surface(vocabulary, "Ġheart") == b" heart"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"), "is WordLevel"),
        (models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>"), "BPE that marks the ends of words"),
        (models.BPE({"a": 0}, []), 'BPE without a byte alphabet or "▁"'),
    ],
)
def test_an_unknown_kind_is_named(tmp_path: Path, model: models.Model, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_vocabulary(save(Tokenizer(model), tmp_path))


def test_a_missing_or_damaged_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        read_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(DataError, match="cannot be read"):
        read_vocabulary(tmp_path)
    folder = byte_level(tmp_path / "good")
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer_config\.json is not valid JSON"):
        read_vocabulary(folder)
