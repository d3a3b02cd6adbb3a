"""The words of a corpus in their order, on disk, and the runs of frequent pairs in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile

import numpy as np

_PARTS = 16
"""Arrays of counted pairs that are kept before they are added up."""


class WordSequence:
    """The words of a corpus one after another, kept in a temporary file, 4 bytes each.

    A word is its number in the order in which words first occur; -1 ends a text.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115
        self._lengths: list[int] = []

    def append(self, numbers: np.ndarray) -> None:
        """Append whole texts, [W] int32."""
        self._file.write(numbers.tobytes())
        self._lengths.append(len(numbers))

    def __iter__(self) -> Iterator[np.ndarray]:
        """The arrays that were appended."""
        self._file.seek(0)
        for length in self._lengths:
            yield np.frombuffer(self._file.read(4 * length), dtype=np.int32)

    def __enter__(self) -> WordSequence:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def counted_sequences(sequence: WordSequence, tokens: np.ndarray, least: int) -> dict[tuple[int, ...], int]:
    """Runs of words in which every pair is frequent, and how often the corpus has each.

    Args:
        sequence: the corpus.
        tokens: [W] int64 token of each word by the word's number; -1 for words that n-grams may not hold.
        least: how often a pair must occur.

    Returns:
        Runs of at least two words, as their tokens, each as long as the corpus has it.
    """
    size = int(tokens.max(initial=0)) + 1
    frequent = _frequent_pairs(sequence, tokens, size, least)
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for words in _as_tokens(sequence, tokens):
        joined = np.isin(_pairs(words, size), frequent)
        edges = np.flatnonzero(np.diff(joined, prepend=False, append=False))
        listed = words.tolist()
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            counts[tuple(listed[start : end + 1])] += 1
    return counts


def _frequent_pairs(sequence: WordSequence, tokens: np.ndarray, size: int, least: int) -> np.ndarray:
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for words in _as_tokens(sequence, tokens):
        pairs = _pairs(words, size)
        parts.append(np.unique(pairs[pairs >= 0], return_counts=True))
        if len(parts) == _PARTS:
            parts = [_added_up(parts)]
    if not parts:
        return np.empty(0, dtype=np.int64)
    pairs, counts = _added_up(parts)
    return pairs[counts >= least]


def _as_tokens(sequence: WordSequence, tokens: np.ndarray) -> Iterator[np.ndarray]:
    known = np.append(tokens, -1)  # so that number -1, the end of a text, is -1 again
    return (known[numbers] for numbers in sequence)


def _pairs(words: np.ndarray, size: int) -> np.ndarray:
    """[W-1] int64 number of each pair of adjacent words; -1 where one of them is -1."""
    left, right = words[:-1], words[1:]
    return np.where((left >= 0) & (right >= 0), left * size + right, -1)


def _added_up(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, places = np.unique(np.concatenate([pairs for pairs, _ in parts]), return_inverse=True)
    weights = np.concatenate([counts for _, counts in parts])
    return keys, np.bincount(places, weights, minlength=len(keys)).astype(np.int64)
