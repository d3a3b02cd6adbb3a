"""Compute additive sums over weights that give norms, cosines and sign conflicts of task vectors.

`Concentration` finds the few weights that carry most of a vector's squared norm, in two passes without
sorting.

Positive float32 values have the order of their bits. The first pass adds up squares by the high 16 bits
of the magnitudes, the second by the low 15 of those on the border; so the border is one float32 magnitude,
and the number equals that of a full sort.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch


class Sums(NamedTuple):
    """Sums over some weights; entry [i, j] is over the weights that the base, i and j have. Each [K, K].

    Attributes:
        weights: Number of weights.
        base: Squared norm of the base.
        squared: Squared norm of vector i.
        dot: Inner product of vectors i and j.
        changed: Number of weights where neither vector is zero.
        conflicts: Number of weights where their signs differ.
        conflicting: Squared norm of vector i over these.
    """

    weights: np.ndarray
    base: np.ndarray
    squared: np.ndarray
    dot: np.ndarray
    changed: np.ndarray
    conflicts: np.ndarray
    conflicting: np.ndarray


_COUNTS = ("weights", "changed", "conflicts")


def no_sums(models: int) -> Sums:
    """Return sums over no weights."""
    shape = (models, models)
    return Sums(*(np.zeros(shape, np.int64 if name in _COUNTS else np.float64) for name in Sums._fields))


def add(parts: Iterable[Sums], models: int) -> Sums:
    """Add the sums of parts that have no weights in common."""

    def plus(left: Sums, right: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(left, right, strict=True)))

    return reduce(plus, parts, no_sums(models))


def sums(base: torch.Tensor, vectors: Sequence[torch.Tensor], having: Sequence[int], models: int) -> Sums:
    """Compute the sums over weights that some of the models have.

    Args:
        base: Weights of the base: [n] float64.
        vectors: Task vectors of the models that have these weights: [n] float64 each.
        having: Numbers of these models among all models.
        models: Number of all models (K).
    """
    stacked = torch.stack(list(vectors))  # [H, n]
    signs, squares = stacked.sign().to(torch.int8), stacked.square()
    found = no_sums(models)
    place = np.ix_(having, having)
    found.weights[place] = len(base)
    found.base[place] = float(base.dot(base))
    found.dot[place] = (stacked @ stacked.T).numpy()
    found.squared[place] = found.dot[place].diagonal()[:, None]
    for row, i in enumerate(having):
        found.changed[i, i] = int(signs[row].count_nonzero())
        for column, j in list(enumerate(having))[row + 1 :]:
            products = signs[row] * signs[column]
            differ = products < 0
            found.changed[i, j] = found.changed[j, i] = int(products.count_nonzero())
            found.conflicts[i, j] = found.conflicts[j, i] = int(differ.count_nonzero())
            found.conflicting[i, j] = float(squares[row].dot(differ.double()))
            found.conflicting[j, i] = float(squares[column].dot(differ.double()))
    return found


def cosine(found: Sums, i: int, j: int) -> float | None:
    """Return the cosine of two vectors over the weights that both have; None where one is zero."""
    lengths = float(found.squared[i, j] * found.squared[j, i]) ** 0.5
    return ratio(found.dot[i, j], lengths)


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole; None where the whole is zero."""
    return float(part) / float(whole) if whole else None


_LOW_BITS = 15
_LOW = 2**_LOW_BITS
_HIGH = 2 ** (31 - _LOW_BITS)
_ROUNDING = 1e-12


class Concentration:
    """A counter of the largest weights that together have a share of the squared norm."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._counts = torch.zeros(_HIGH, dtype=torch.int64)
        self._squares = torch.zeros(_HIGH, dtype=torch.float64)
        self._fine = torch.zeros(_LOW, dtype=torch.int64)
        self._border = -1

    def count(self, vector: torch.Tensor) -> None:
        """Count a part of the vector in the first pass: [n], any float type."""
        magnitudes = vector.abs().float()
        bins = (magnitudes.view(torch.int32) >> _LOW_BITS).long()
        self._counts += bins.bincount(minlength=_HIGH)
        self._squares.scatter_add_(0, bins, magnitudes.double().square())

    def refine(self, vector: torch.Tensor) -> None:
        """Count the same parts in the second pass, in any order."""
        if self._border < 0:
            self._border = self._find_border()
        keys = vector.abs().float().view(torch.int32)
        on_border = keys[(keys >> _LOW_BITS) == self._border] & (_LOW - 1)
        self._fine += on_border.bincount(minlength=_LOW)

    def weights(self) -> int:
        """Return the number of weights that carry the share."""
        total = float(self._squares.sum())
        if total == 0.0:
            return 0
        needed = self._needed(total) - float(self._squares[self._border + 1 :].sum())
        count = int(self._counts[self._border + 1 :].sum())
        keys = torch.arange(_LOW, dtype=torch.int32) | (self._border << _LOW_BITS)
        squares = keys.view(torch.float32).double().square().tolist()
        for there, square in zip(reversed(self._fine.tolist()), reversed(squares), strict=True):
            if there and needed <= there * square:
                return count + max(0, math.ceil(needed / square))
            needed -= there * square
            count += there
        return count

    def _find_border(self) -> int:
        """Return the highest bin at which the bins from above have the share."""
        from_above = self._squares.flip(0).cumsum(0)
        return _HIGH - 1 - int(torch.searchsorted(from_above, self._needed(float(from_above[-1]))))

    def _needed(self, total: float) -> float:
        """Return the squared norm to be carried, less a margin for rounding."""
        return self._share * total * (1 - _ROUNDING)
