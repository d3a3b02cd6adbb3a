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
        self._round_keys = np.frombuffer(seed, dtype="<u8")

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the elements at positions.

        Args:
            positions: int (n,), each in 0 .. size - 1.

        Returns:
            int64 (n,).
        """
        values = self._encipher(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._encipher(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _encipher(self, values: np.ndarray) -> np.ndarray:
        bits, mask = np.uint64(self._half_bits), np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << bits) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
