"""Permute positions pseudorandomly, each by itself: the order in which a source is read."""

from __future__ import annotations

import hashlib

import numpy as np

_ROUNDS = 6


class Permutation:
    """A pseudorandom bijection of 0 .. size - 1, computed from a key: the same on every machine and version.

    A balanced Feistel network over the next even power of two, walked along its cycle until it is inside
    (Black and Rogaway 2002): constant memory, and any element without the others.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        self.size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        seed = hashlib.blake2b(repr(key).encode(), digest_size=8 * _ROUNDS).digest()
        # A round's function takes one half, of 14 bits for 200 million elements: a table of all its values is
        # four times as fast as computing it.
        halves = np.arange(1 << self._half_bits, dtype=np.uint64)
        mask = np.uint64(len(halves) - 1)
        self._rounds = [
            (_mix(halves ^ key) & mask).astype(np.int64) for key in np.frombuffer(seed, dtype="<u8")
        ]

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the elements at positions.

        Args:
            positions: int (n,), each in 0 .. size - 1.

        Returns:
            int64 (n,).
        """
        values = self._encipher(positions)
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._encipher(values[outside])
            outside = outside[values[outside] >= self.size]
        return values

    def positions(self, elements: np.ndarray) -> np.ndarray:
        """Return the positions of elements, int64 (n,): the inverse of a call.

        Args:
            elements: int (n,), each in 0 .. size - 1.
        """
        values = self._decipher(elements)
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._decipher(values[outside])
            outside = outside[values[outside] >= self.size]
        return values

    def _encipher(self, values: np.ndarray) -> np.ndarray:
        left, right = self._halves(values)
        scrambled = np.empty_like(left)
        for table in self._rounds:
            np.take(table, right, out=scrambled, mode="clip")  # without `clip` it would copy for its check
            left ^= scrambled
            left, right = right, left
        return (left << self._half_bits) | right

    def _decipher(self, values: np.ndarray) -> np.ndarray:
        left, right = self._halves(values)
        scrambled = np.empty_like(left)
        for table in reversed(self._rounds):
            np.take(table, left, out=scrambled, mode="clip")
            right ^= scrambled
            left, right = right, left
        return (left << self._half_bits) | right

    def _halves(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray(values, dtype=np.int64)
        return values >> self._half_bits, values & ((1 << self._half_bits) - 1)


def _mix(values: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
