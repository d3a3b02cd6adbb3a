"""Snippets: where two segmentations meet, against brute force; how text is cut and which cuts are taken."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import SENTENCES, varied_texts, write_tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cpt.errors import StageFailed
from tokenizer_tools.embeddings._contexts import (
    Snippet,
    SnippetParameters,
    batches,
    collect,
    cut,
    rows_of_tokens,
)
from tokenizer_tools.segmentation import Segmentation, meeting_points, segment
from tokenizer_tools.transfer import Transfer, plan_transfer
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

ROWS = 300
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


def transfer_of(byte_level: list[Vocabulary], texts: list[str]) -> Transfer:
    return plan_transfer(byte_level[0], byte_level[1], byte_level[0].folder, texts=lambda: iter(texts))


def bytes_of(transfer: Transfer, rows: np.ndarray, *, new: bool) -> bytes:
    ids = rows
    if new:
        back = {row: i for i, row in enumerate(rows_of_tokens(transfer, ROWS).tolist())}
        ids = np.array([back[row] for row in rows.tolist()])
    vocabulary = transfer.target if new else transfer.source
    return b"".join(vocabulary.surfaces[i] or b"" for i in ids)


def test_both_parts_of_a_snippet_spell_the_same_text(byte_level: list[Vocabulary]) -> None:
    transfer = transfer_of(byte_level, SENTENCES + MIXED)
    snippets = collect(transfer, ROWS, SnippetParameters(snippets_per_token=100, snippet_tokens=7))
    assert len(snippets) > 5
    for snippet in snippets:
        assert snippet.old[0] == snippet.new[0] == transfer.source.roles["bos"]
        assert len(snippet.new) - 1 <= 7
        for i, j in zip(snippet.old_met, snippet.new_met, strict=True):
            before = [bytes_of(transfer, snippet.old[: i + 1], new=False)]
            assert before == [bytes_of(transfer, snippet.new[: j + 1], new=True)]
        assert (snippet.old_met[-1], snippet.new_met[-1]) == (len(snippet.old) - 1, len(snippet.new) - 1)
        assert (snippet.new >= ROWS).any()


def test_a_text_is_cut_from_start_to_end(byte_level: list[Vocabulary]) -> None:
    transfer = transfer_of(byte_level, [])
    old, new = segment(transfer.source, MIXED[0]), segment(transfer.target, MIXED[0])
    new = Segmentation(rows_of_tokens(transfer, ROWS)[new.ids], new.ends)
    for tokens in (1, 5, 1000):
        cuts = list(cut(old, new, tokens, None))
        parts = [bytes_of(transfer, snippet.new, new=True) for snippet in cuts]
        assert b"".join(parts) == MIXED[0].encode()
        assert max(len(snippet.new) for snippet in cuts) <= tokens
    assert len(cuts) == 1


def test_a_stretch_in_which_segmentations_do_not_meet_is_left_out() -> None:
    old = Segmentation(np.arange(4), np.array([1, 3, 5, 6]))
    new = Segmentation(np.arange(5), np.array([1, 2, 4, 5, 6]))
    whole, short = (list(cut(old, new, tokens, 9)) for tokens in (3, 2))
    assert [snippet.new.tolist() for snippet in whole] == [[9, 0], [9, 1, 2, 3], [9, 4]]
    assert [snippet.old.tolist() for snippet in whole] == [[9, 0], [9, 1, 2], [9, 3]]
    assert (whole[1].old_met.tolist(), whole[1].new_met.tolist()) == ([0, 2], [0, 3])
    assert [snippet.new.tolist() for snippet in short] == [[9, 0], [9, 4]]


def occurrences(snippets: list[Snippet], tokens: int) -> np.ndarray:
    """In how many snippets each new token is."""
    found = np.zeros(tokens, dtype=int)
    for snippet in snippets:
        found[np.unique(snippet.new[snippet.new >= ROWS]) - ROWS] += 1
    return found


def test_snippets_are_taken_until_every_token_has_enough(byte_level: list[Vocabulary]) -> None:
    transfer = transfer_of(byte_level, varied_texts(40))
    every = collect(transfer, ROWS, SnippetParameters(snippets_per_token=10**6))
    available = occurrences(every, len(transfer.new))
    for wanted in (1, 3):
        snippets = collect(transfer, ROWS, SnippetParameters(snippets_per_token=wanted))
        assert (occurrences(snippets, len(transfer.new)) >= np.minimum(wanted, available)).all()
        assert len(snippets) < len(every)
    lengths = {len(snippet.new) for snippet in collect(transfer, ROWS, SnippetParameters(snippet_tokens=4))}
    assert max(lengths) == 5


def test_no_more_text_is_read_than_needed(byte_level: list[Vocabulary]) -> None:
    read: list[str] = []

    def texts(count: int) -> Callable:
        def pieces():
            for text in varied_texts(count):
                read.append(text)
                yield text

        return pieces

    transfer = replace(transfer_of(byte_level, []), texts=texts(500))
    collect(transfer, ROWS, SnippetParameters(snippets_per_token=10**6, tokens=100))
    assert 1 < len(read) < 10


def test_what_was_found_is_logged(byte_level: list[Vocabulary], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        collect(transfer_of(byte_level, ["zzz"]), ROWS, SnippetParameters())
    assert "0 snippets; 30 of 30 new tokens occur in none" in caplog.text


def test_without_texts_it_says_so(byte_level: list[Vocabulary]) -> None:
    with pytest.raises(StageFailed, match="texts") as raised:
        collect(replace(transfer_of(byte_level, []), texts=None), ROWS, SnippetParameters())
    assert raised.value.hint


def test_batches_hold_every_snippet_once_and_little_padding(byte_level: list[Vocabulary]) -> None:
    transfer = transfer_of(byte_level, varied_texts(40))
    snippets = collect(transfer, ROWS, SnippetParameters(snippets_per_token=10**6))
    made = batches(snippets, 200)
    assert sorted(map(id, snippets)) == sorted(id(snippet) for batch in made for snippet in batch)
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(len(snippet.old) for snippet in batch) <= 200
    for one, other in pairwise(made):
        assert max(len(s.old) for s in one) <= min(len(s.old) for s in other)


def test_a_vocabulary_without_a_start_token_has_snippets_without_one(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    target = read_vocabulary(write_tiny_model(tmp_path / "target", vocabulary=330))
    for role in ("bos_token", "eos_token"):
        del config[role]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    source = read_vocabulary(folder)
    assert not {"bos", "eos", "cls"} & set(source.roles)
    transfer = plan_transfer(source, target, folder, texts=lambda: iter(SENTENCES))
    snippet = collect(transfer, ROWS, SnippetParameters())[0]
    assert SENTENCES[0].encode().startswith(bytes_of(transfer, snippet.old, new=False))
