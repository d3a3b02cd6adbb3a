"""Segmentations: where the tokens of a text end, and where two segmentations meet, against brute force."""

from pathlib import Path

import numpy as np
import pytest
from tiny import SENTENCES, write_tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tokenizer_tools.segmentation import meeting_points, segment
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

MIXED = [
    "The heart, naïve façade — 心臓 and 心; the 👩‍⚕️ said:  two  spaces\n\n\tand tabs",
    "हृदय и сердце, Ångström e\u0301 ﬁ",
    " leading space and the end ",
    "心",
    "",
]


def save(tokenizer: Tokenizer, folder: Path) -> Vocabulary:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return read_vocabulary(folder)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> list[Vocabulary]:
    """Two of 300 and 330 tokens; a third that normalises and whose offsets leave spaces out."""
    folder = tmp_path_factory.mktemp("byte-level")
    plain = [write_tiny_model(folder / "300"), write_tiny_model(folder / "330", vocabulary=330)]
    tokenizer = Tokenizer.from_file(str(plain[1] / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return [*map(read_vocabulary, plain), save(tokenizer, folder / "nfc")]


def sentence_piece(folder: Path) -> Vocabulary:
    """Unigram with some Latin pieces and 心; knows no other characters."""
    scores = {"<unk>": 0.0, "▁": -4.0, "▁the": -2.0, "▁heart": -2.0, "heart": -2.5, "心": -3.0, "an": -3.0}
    letters = dict.fromkeys("abcdefghijklmnopqrstuvwxyzT,.;:", -6.0)
    tokenizer = Tokenizer(models.Unigram([*{**letters, **scores}.items()], 31))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return save(tokenizer, folder)


def word_piece(folder: Path) -> Vocabulary:
    """Lower-cases and strips accents."""
    pieces = ["[UNK]", "the", "heart", "na", "##ive", "##s", "and", ",", ";", "##art", "he", "心"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return save(tokenizer, folder)


def byte_of() -> dict[str, int]:
    """Byte by character of GPT-2's alphabet: printable Latin-1 stands for itself, others follow from 256."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def brute_force(old: list[bytes], new: list[bytes]) -> list[tuple[int, int]]:
    """Every pair of positions up to which both have read the same bytes."""
    read = [[b"".join(tokens[: i + 1]) for i in range(len(tokens))] for tokens in (old, new)]
    return [(i, j) for i, one in enumerate(read[0]) for j, other in enumerate(read[1]) if one == other]


def spelt(vocabulary: Vocabulary, text: str) -> list[bytes]:
    ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    alphabet = byte_of()
    return [bytes(alphabet[c] for c in vocabulary.tokenizer.id_to_token(i)) for i in ids]


@pytest.mark.parametrize("text", MIXED + SENTENCES)
def test_byte_level_segmentations_meet_where_the_same_bytes_are_read(
    byte_level: list[Vocabulary], text: str
) -> None:
    old, new = byte_level[:2]
    found = meeting_points(segment(old, text), segment(new, text))
    assert list(zip(*map(np.ndarray.tolist, found), strict=True)) == brute_force(
        spelt(old, text), spelt(new, text)
    )


def test_byte_level_segmentations_meet_within_characters(byte_level: list[Vocabulary]) -> None:
    text = "心臓"
    assert segment(byte_level[0], text).ends.tolist() == [1, 2, 3, 4, 5, 6]


def test_normalised_text_meets_at_the_ends_of_characters(byte_level: list[Vocabulary]) -> None:
    """The second tokenizer composes letters with accents, so its tokens do not spell the text."""
    text = MIXED[1]
    assert b"".join(spelt(byte_level[2], text)) != text.encode()
    plain, composing = (segment(vocabulary, text) for vocabulary in byte_level[1:])
    at_plain, at_composing = meeting_points(plain, composing)
    met = plain.ends[at_plain].tolist()
    assert met == composing.ends[at_composing].tolist()
    ends_of_words = {len(text[:i].encode()) for i, character in enumerate(text) if character in " ,"}
    assert ends_of_words <= set(met) <= set(np.cumsum([len(c.encode()) for c in text]).tolist())


def test_sentence_piece_and_byte_level_meet_after_the_same_text(
    byte_level: list[Vocabulary], tmp_path: Path
) -> None:
    """A space put before the text is not counted; an unknown character ends where it ends."""
    pieces = sentence_piece(tmp_path / "unigram")
    known, unknown = segment(pieces, "the heart 心"), segment(pieces, "the é心 heart")
    assert [pieces.tokens[i] for i in known.ids] == ["▁the", "▁heart", "▁", "心"]
    assert known.ends.tolist() == [3, 9, 10, 13]
    assert [pieces.tokens[i] for i in unknown.ids] == ["▁the", "▁", "<unk>", "心", "▁heart"]
    assert unknown.ends.tolist() == [3, 4, 6, 9, 15]
    at_bytes, at_pieces = meeting_points(segment(byte_level[0], "the é心 heart"), unknown)
    assert at_pieces.tolist() == [0, 1, 2, 3, 4]
    assert segment(byte_level[0], "the é心 heart").ends[at_bytes].tolist() == [3, 4, 6, 9, 15]


def test_word_piece_and_byte_level_meet_after_the_same_characters(
    byte_level: list[Vocabulary], tmp_path: Path
) -> None:
    pieces, text = word_piece(tmp_path / "wordpiece"), "The naïve HEART, 心"
    found = segment(pieces, text)
    assert [pieces.tokens[i] for i in found.ids] == ["the", "na", "##ive", "heart", ",", "心"]
    assert found.ends.tolist() == [3, 6, 10, 16, 17, 21]
    assert segment(pieces, " ").ids.tolist() == []
    at_bytes, _ = meeting_points(segment(byte_level[0], text), found)
    assert {3, 10, 16, 17, 21} <= set(segment(byte_level[0], text).ends[at_bytes].tolist())
