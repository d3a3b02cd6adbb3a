"""Counts of beginnings of a reading order against counting every sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpt.corpus import reading_order
from cpt.corpus.reading_order import ReadingOrder
from cpt.corpus.shards import ShardWriter
from cpt.corpus.tokenised_source import TokenisedSource


@pytest.fixture
def source(tmp_path: Path) -> TokenisedSource:
    """Two parts of 70 and 41 sequences in several shards; the second has loss weights in some of them."""
    chance = np.random.default_rng(1)
    for part, count in (("a", 70), ("b", 41)):
        writer = ShardWriter(tmp_path / f"replay.{part}", 16, shard_tokens=150)
        for number in range(count):
            tokens = chance.integers(9, 17)
            weights = chance.integers(0, 3, tokens).astype(np.float16) / 2
            some = [weights] if part == "b" and number > 20 else None
            writer.add([np.full(tokens, number, dtype=np.uint32)], number, some)
        writer.close()
    return TokenisedSource(tmp_path / "replay.a", tmp_path / "replay.b", name="replay")


def counted(source: TokenisedSource, numbers: np.ndarray) -> np.ndarray:
    """Sequences, tokens and tokens of weight 0 by part, one sequence after the other."""
    found = np.zeros((2, 3), dtype=int)
    for number in numbers.tolist():
        row = source.sequence(number)
        zeros = 0 if row.weights is None else int((row.weights == 0).sum())
        found[int(number >= 70)] += (1, len(row.tokens), zeros)
    return found


@pytest.mark.parametrize("block", [1, 8, 37, 1 << 16])
def test_counts_equal_counting(source: TokenisedSource, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reading_order, "_BLOCK", block)
    order = ReadingOrder(source, 17, "replay")
    ranges = ((0, 0), (0, 111), (0, 55), (0, 57), (3, 108), (16, 24), (100, 400), (222, 333), (5, 6))
    for first, end in ranges:
        assert np.array_equal(order.count(first, end), counted(source, order.numbers(first, end - first)))


def test_no_more_than_half_an_epoch_is_looked_at_and_nothing_twice(
    source: TokenisedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_order, "_BLOCK", 8)
    looked: list[int] = []
    count = TokenisedSource.count

    def spied(self: TokenisedSource, numbers: np.ndarray) -> np.ndarray:
        looked.append(len(numbers))
        return count(self, numbers)

    monkeypatch.setattr(TokenisedSource, "count", spied)
    order = ReadingOrder(source, 17, "replay")
    order.count(0, 8 * 111)
    assert sum(looked) == 0
    order.count(0, 100)
    assert sum(looked) == 11
    for end in range(0, 111):
        order.count(0, end)
    assert sum(looked) <= 111 + 111 * 8


def test_times_of_sequences_equal_counting(source: TokenisedSource) -> None:
    order = ReadingOrder(source, 5, "replay")
    for first, end in ((0, 111), (0, 40), (30, 150), (7, 7), (200, 700)):
        read = np.bincount(order.numbers(first, end - first), minlength=111)
        found = [order.times(first, end, begin, min(begin + 20, 111)) for begin in range(0, 111, 20)]
        assert np.concatenate(found).tolist() == read.tolist()


def test_streams_of_a_source_share_what_was_counted(source: TokenisedSource) -> None:
    assert ReadingOrder.of(source, 17, "replay") is ReadingOrder.of(source, 17, "replay")
    assert ReadingOrder.of(source, 17, "replay") is not ReadingOrder.of(source, 18, "replay")
