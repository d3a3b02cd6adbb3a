"""Snippets: how text is cut, and which cuts are taken."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import SENTENCES, varied_texts, write_tiny_model

from cpt.errors import StageFailed
from tokenizer_tools.embeddings._contexts import (
    Snippet,
    SnippetParameters,
    batches,
    collect,
    cut,
    rows_of_tokens,
)
from tokenizer_tools.segmentation import Segmentation, segment
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


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> list[Vocabulary]:
    """Two of 300 and 330 tokens."""
    folder = tmp_path_factory.mktemp("byte-level")
    plain = [write_tiny_model(folder / "300"), write_tiny_model(folder / "330", vocabulary=330)]
    return [*map(read_vocabulary, plain)]


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
