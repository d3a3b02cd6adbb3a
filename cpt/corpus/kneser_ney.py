"""Estimate and query an n-gram language model over tokens: interpolated Kneser-Ney, with numpy alone.

Its vocabulary is the tokenizer's, so no token is unknown. Kneser and Ney (1995); Chen and Goodman (1999),
section 2.7, with all orders interpolated down to the uniform distribution, and one discount for each order:
n1 / (n1 + 2 n2), from the n-grams that occur once and twice.

KenLM does the same for words and larger text, but its Python package can only query a model, not estimate
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_NONE = -1


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length. Each is a context (the number of the tokens before the last) and a token.

    Attributes:
        keys: int64 (n-grams,), sorted: context * base + token. An n-gram's number is its index here.
        above: float64 (n-grams,), count minus the discount.
        total: float64 (contexts,), sum of a context's counts.
        spread: float64 (contexts,), sum of the discounts taken from a context.
    """

    keys: np.ndarray
    above: np.ndarray
    total: np.ndarray
    spread: np.ndarray


class KneserNey:
    """The probability of a token after the n - 1 tokens before it; a document's beginning is context too."""

    def __init__(self, documents: Iterable[np.ndarray], order: int, vocabulary: int) -> None:
        """Estimate the model; takes about 30 bytes of memory for every token and order.

        Args:
            documents: Token ids of each document, (tokens,), all below `vocabulary`.
            order: Number n of tokens of the longest n-grams.
        """
        self._vocabulary = vocabulary
        self._base = vocabulary + 1
        tokens = self._joined(documents)
        contexts = place = np.zeros_like(tokens)
        keys, counts, suffixes = [], [], []
        for length in range(1, order + 1):
            at = np.flatnonzero((tokens != self._mark) & (contexts != _NONE))
            found, first, own, count = np.unique(
                contexts[at] * self._base + tokens[at],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            keys.append(found)
            counts.append(count)
            suffixes.append(place[at[first]])
            place = np.full_like(tokens, _NONE)
            place[at] = own
            contexts = _before(tokens if length == 1 else place)
        sizes = [1, self._base, *map(len, keys[1:])]
        self._orders = [
            self._estimated(keys[k], _continuations(counts[k], suffixes[k + 1 : k + 2]), sizes[k])
            for k in range(order)
        ]

    @property
    def _mark(self) -> int:
        """The id that stands before every document."""
        return self._vocabulary

    def _joined(self, documents: Iterable[np.ndarray]) -> np.ndarray:
        parts = [part for document in documents for part in ([self._mark], document)]
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])

    def _estimated(self, keys: np.ndarray, counts: np.ndarray, contexts: int) -> _Order:
        once, twice = (int((counts == times).sum()) for times in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        context = keys // self._base
        total = np.bincount(context, weights=counts, minlength=contexts)
        kinds = np.bincount(context, minlength=contexts)
        return _Order(keys, counts - discount, total, discount * kinds)

    def bits(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        """Return the code length of each document without its end: Σ -log2 p, float64 (documents,)."""
        tokens = self._joined(documents)
        follows = tokens != self._mark
        probability = np.full(len(tokens), 1 / self._vocabulary)
        contexts = np.zeros_like(tokens)
        for length, order in enumerate(self._orders, start=1):
            at = np.flatnonzero(follows & (contexts != _NONE))
            context = contexts[at]
            key = context * self._base + tokens[at]
            place = np.minimum(np.searchsorted(order.keys, key), len(order.keys) - 1)
            seen = order.keys[place] == key
            known = order.total[context] > 0
            above = np.where(seen, order.above[place], 0.0)
            mixed = (above + order.spread[context] * probability[at]) / np.maximum(order.total[context], 1)
            probability[at] = np.where(known, mixed, probability[at])
            numbers = np.full_like(tokens, _NONE)
            numbers[at] = np.where(seen, place, _NONE)
            contexts = _before(tokens if length == 1 else numbers)
        owner = np.cumsum(~follows) - 1
        return np.bincount(owner, weights=np.where(follows, -np.log2(probability), 0.0))


def _before(numbers: np.ndarray) -> np.ndarray:
    """Return the n-gram that ends right before each position."""
    return np.concatenate([[_NONE], numbers[:-1]])


def _continuations(counts: np.ndarray, suffixes: Sequence[np.ndarray]) -> np.ndarray:
    """Count the distinct tokens before each n-gram, or its occurrences if it has none: at a beginning.

    Args:
        suffixes: Number of the n-gram that each n-gram of one token more ends in, if there are longer ones.
    """
    if not suffixes:
        return counts
    ways = np.bincount(suffixes[0], minlength=len(counts))
    return np.where(ways == 0, counts, ways)
