"""Sequences by number: counted without opening a shard, read when asked, and the same as before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from cpt.corpus import tokenised_source
from cpt.corpus.sequence_counts import clear_counts
from cpt.corpus.shards import Shard, ShardWriter
from cpt.corpus.stream import TrainingStream
from cpt.corpus.tokenised_source import PackedSequence, StoredSequence, TokenisedSource
from cpt.errors import DataError


def write(folder: Path, weighted_from: int | None, length: int = 16, seed: int = 3) -> None:
    """Two hundred documents of one to three pieces; those from a number on may have loss weights."""
    chance = np.random.default_rng(seed)
    writer = ShardWriter(folder, length, shard_tokens=300)
    for number in range(200):
        sizes = chance.integers(1, 17, number % 3 + 1)
        pieces = [chance.integers(0, 999, size).astype(np.uint32) for size in sizes]
        weights = [(chance.integers(0, 5, size) / 4).astype(np.float16) for size in sizes]
        is_weighted = weighted_from is not None and number >= weighted_from
        writer.add(pieces, number, weights if is_weighted else None)
    writer.close()


def rows_of(source: TokenisedSource) -> Iterator[tuple[StoredSequence, PackedSequence]]:
    """Every stored row, and the same row read from its shard."""
    numbers = np.arange(len(source))
    for number, stored in zip(numbers.tolist(), source.rows(numbers), strict=True):
        yield stored, source.sequence(number)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are opened."""
    names: list[str] = []
    open_shard = Shard.open.__func__  # type: ignore[attr-defined]

    def spied(cls: type[Shard], stem: Path) -> Shard:
        names.append(stem.name)
        return open_shard(cls, stem)

    monkeypatch.setattr(Shard, "open", classmethod(spied))
    return names


@pytest.mark.parametrize("weighted_from", [None, 0, 120])
@pytest.mark.parametrize("length", [16, 1 << 17])
def test_counts_of_rows_are_those_of_their_tokens(
    tmp_path: Path, weighted_from: int | None, length: int
) -> None:
    write(tmp_path, weighted_from, length)
    source = TokenisedSource(tmp_path)
    assert source.has_weights == (weighted_from is not None)
    for stored, read in rows_of(source):
        assert stored.source == read.source == tmp_path.name
        assert stored.length == read.length == len(read.tokens)
        assert stored.target_weight == read.target_weight
        assert (stored.without_loss or 0) == (read.without_loss or 0)
        assert (stored.without_loss is None) == (not source.has_weights)
        assert np.array_equal(stored.tokens, read.tokens)
        assert np.array_equal(stored.piece_lengths, read.piece_lengths)
        assert (stored.weights is None) == (read.weights is None)


@pytest.mark.parametrize("weighted_from", [None, 120])
def test_a_corpus_of_an_earlier_version_is_counted_by_its_shards(
    tmp_path: Path, weighted_from: int | None
) -> None:
    write(tmp_path / "new", weighted_from)
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    clear_counts(tmp_path / "old")
    new, old = (TokenisedSource(tmp_path / name, name="domain") for name in ("new", "old"))
    assert np.array_equal(new.sums, old.sums)
    facts = [
        [(row.length, row.target_weight, row.without_loss) for row in each.rows(np.arange(len(each)))]
        for each in (new, old)
    ]
    assert facts[0] == facts[1]


def test_a_stream_counts_without_opening_and_opens_what_is_read(tmp_path: Path, opened: list[str]) -> None:
    write(tmp_path / "domain", None)
    stream = TrainingStream({"domain": TokenisedSource(tmp_path / "domain")}, 0, 8, 17)
    batches = [stream.batch(step) for step in range(5)]
    tokens = sum(row.length for batch in batches for row in batch)
    assert stream.ledger(5)["domain"]["tokens"] == tokens
    assert opened == []
    mine = batches[0][2:4]  # a process's share
    assert sum(len(row.tokens) for row in mine for _ in range(3)) == 3 * sum(row.length for row in mine)
    assert 1 <= len(opened) <= 2


def test_few_shards_stay_open(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenised_source, "_opened", lru_cache(2)(tokenised_source._opened.__wrapped__))
    write(tmp_path, None)
    source = TokenisedSource(tmp_path)
    for _ in range(2):
        for number in range(len(source)):
            source.sequence(number)
    shards = len(list(tmp_path.glob("shard-*.tokens.npy")))
    assert shards > 5
    assert len(opened) == 2 * shards  # in order: each comes and goes once a pass
    source.sequence(len(source) - 1)
    assert len(opened) == 2 * shards


def test_missing_and_exchanged_shards_are_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a", None)
    write(tmp_path / "b", None, seed=4)
    for part in ("tokens", "pieces", "sequences"):
        shutil.copy(tmp_path / "b" / f"shard-00001.{part}.npy", tmp_path / "a" / f"shard-00001.{part}.npy")
    source = TokenisedSource(tmp_path / "a")
    with pytest.raises(DataError, match=r"shard-00001: not the shard that was counted"):
        list(rows_of(source))
    (tmp_path / "a" / "shard-00002.tokens.npy").unlink()
    with pytest.raises(DataError, match=r"1 of \d+ token shards are missing, such as shard-00002"):
        TokenisedSource(tmp_path / "a")


def test_damaged_counts_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, 50)
    for name in ("tokens", "pieces", "targets", "without_loss"):
        file = tmp_path / f"counts.{name}.npy"
        whole = file.read_bytes()
        np.save(file, np.load(file)[:-1])
        with pytest.raises(DataError, match="counts of its sequences do not fit together"):
            TokenisedSource(tmp_path)
        file.write_bytes(whole)


def test_a_folder_that_is_written_again_is_counted_anew(tmp_path: Path) -> None:
    write(tmp_path, 0)
    for file in tmp_path.glob("shard-*"):
        file.unlink()
    write(tmp_path, None)
    source = TokenisedSource(tmp_path)
    assert not source.has_weights
    assert source.sums[0, 1] == sum(read.length for _, read in rows_of(source))
