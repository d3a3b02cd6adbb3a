"""Sums over weights from which norms, cosines and sign conflicts of task vectors follow. They add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch


class Sums(NamedTuple):
    """Sums over some weights; entry [i, j] is over the weights that the base, i and j have. Each [K, K].

    Attributes:
        weights: how many there are.
        base: the base's squared norm.
        squared: the squared norm of vector i.
        dot: inner product of vectors i and j.
        changed: weights in which neither vector is zero.
        conflicts: weights in which their signs differ.
        conflicting: squared norm of vector i over these.
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
    """Sums over nothing."""
    shape = (models, models)
    return Sums(*(np.zeros(shape, np.int64 if name in _COUNTS else np.float64) for name in Sums._fields))


def add(parts: Iterable[Sums], models: int) -> Sums:
    """Sums over all the weights of the parts, which have none in common."""

    def plus(left: Sums, right: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(left, right, strict=True)))

    return reduce(plus, parts, no_sums(models))


def sums(base: torch.Tensor, vectors: Sequence[torch.Tensor], having: Sequence[int], models: int) -> Sums:
    """Sums over weights that some of the models have.

    Args:
        base: [n] float64.
        vectors: task vectors [n] float64 of the models that have these weights.
        having: their numbers among all models.
        models: how many models there are (K).
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
    """Cosine between two vectors over the weights that both have; None where one of them is zero."""
    lengths = float(found.squared[i, j] * found.squared[j, i]) ** 0.5
    return ratio(found.dot[i, j], lengths)


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where the whole is zero."""
    return float(part) / float(whole) if whole else None
