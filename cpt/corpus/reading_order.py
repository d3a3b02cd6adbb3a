"""Read a source again and again, every epoch in a new permutation, and count what a beginning of it holds.

Whole epochs are counted by the source's sums. Within an epoch, sequences are counted in blocks of the
permuted order: at 60 ns each 49 million sequences (200B tokens in rows of 4,096) take three seconds, and no
more than half of them are ever looked at, because a long beginning is the epoch without its end. Sums of
blocks are kept, so that further questions (a schedule by tokens asks twenty) cost milliseconds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cpt.corpus.permutation import Permutation
from cpt.corpus.tokenised_source import TokenisedSource

_BLOCK = 1 << 16
"""Sequences that are counted at once: their numbers fit a processor's cache."""

_EPOCHS = 64
"""Epochs whose permutations and sums are kept."""


class ReadingOrder:
    """The order in which a stream reads the sequences of a source."""

    def __init__(self, source: TokenisedSource, seed: int, name: str) -> None:
        """Lay out the order: a function of the source's size, the seed, and the source's name in a stream."""
        self._source, self._key, self._size = source, (seed, name), len(source)
        self._epoch = lru_cache(_EPOCHS)(self._make_epoch)

    @classmethod
    def of(cls, source: TokenisedSource, seed: int, name: str) -> ReadingOrder:
        """Return the order of a source; streams of the same source and seed share what it has counted."""
        return _orders(source, seed, name)

    def numbers(self, first: int, count: int) -> np.ndarray:
        """Return the sequences at positions first .. first + count - 1: int64 (count,)."""
        positions = np.arange(first, first + count)
        numbers = np.empty(count, dtype=np.int64)
        for epoch in range(first // self._size, (first + count - 1) // self._size + 1):
            inside = positions // self._size == epoch
            numbers[inside] = self._epoch(epoch).permutation(positions[inside] % self._size)
        return numbers

    def count(self, first: int, end: int) -> np.ndarray:
        """Count the positions from one up to another.

        Returns:
            int64 (parts, 3): sequences, tokens and tokens of weight 0 of each part of the source.
        """
        return self._until(end) - self._until(first)

    def times(self, first: int, end: int, begin: int, stop: int) -> np.ndarray:
        """Return how often the sequences of numbers begin .. stop - 1 are at positions first .. end - 1.

        Returns:
            int64 (stop - begin,).
        """
        numbers = np.arange(begin, stop)
        found = np.zeros(len(numbers), dtype=np.int64)
        for epoch in range(first // self._size, -(-end // self._size)):
            low, high = max(first - epoch * self._size, 0), min(end - epoch * self._size, self._size)
            if high - low == self._size:
                found += 1
                continue
            positions = self._epoch(epoch).permutation.positions(numbers)
            found += (low <= positions) & (positions < high)
        return found

    def _until(self, end: int) -> np.ndarray:
        epochs, rest = divmod(end, self._size)
        within = self._epoch(epochs).count(rest) if rest else 0
        return epochs * self._source.sums + within

    def _make_epoch(self, epoch: int) -> _Epoch:
        return _Epoch(self._source, Permutation(self._size, *self._key, epoch))


@lru_cache(maxsize=16)
def _orders(source: TokenisedSource, seed: int, name: str) -> ReadingOrder:
    return ReadingOrder(source, seed, name)


class _Epoch:
    """One epoch of a source, with the counts of its blocks as far as they are known."""

    def __init__(self, source: TokenisedSource, permutation: Permutation) -> None:
        self.permutation = permutation
        self._source, self._size = source, len(source)
        self._blocks: dict[int, np.ndarray] = {}

    def count(self, positions: int) -> np.ndarray:
        """Count the first positions: int64 (parts, 3)."""
        if 2 * positions > self._size:
            return self._source.sums - self._between(positions, self._size)
        return self._between(0, positions)

    def _between(self, first: int, end: int) -> np.ndarray:
        begin, stop = -(-first // _BLOCK), end // _BLOCK  # whole blocks
        total = np.zeros_like(self._source.sums)
        if begin > stop:  # within one block
            return total + self._look(first, end)
        for block in range(begin, stop):
            if block not in self._blocks:
                self._blocks[block] = self._look(block * _BLOCK, (block + 1) * _BLOCK)
            total += self._blocks[block]
        total += self._look(first, begin * _BLOCK)
        return total + self._look(stop * _BLOCK, end)

    def _look(self, first: int, end: int) -> np.ndarray:
        return self._source.count(self.permutation(np.arange(first, end)))
