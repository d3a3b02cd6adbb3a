"""What becomes of the items' values where it is no mean; each name is also the metric's.

Labels are whatever can be compared; a prediction that is none of the labels is wrong for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Pair = tuple[Any, Any]
"""Right label, predicted label."""
Counts = tuple[float, float, float]
"""Found and right, found, right."""


def weighted_f1(pairs: Sequence[Pair]) -> float:
    """F1 of each label that occurs among the right ones, weighted by how often it does."""
    gold, predicted = (np.array([str(label) for label in column]) for column in zip(*pairs, strict=True))
    labels, counts = np.unique(gold, return_counts=True)
    scores = [_f1(gold == label, predicted == label) for label in labels]
    return float(np.average(scores, weights=counts))


def mean_weighted_f1(triples: Sequence[tuple[Any, Any, Any]]) -> float:
    """Mean over groups of each group's weighted F1.

    Args:
        triples: group, right label, predicted label.
    """
    groups: dict[Any, list[Pair]] = {}
    for group, gold, predicted in triples:
        groups.setdefault(group, []).append((gold, predicted))
    return float(np.mean([weighted_f1(pairs) for pairs in groups.values()]))


def micro_f1(counts: Sequence[Counts]) -> float:
    """F1 over what all items hold together; 0 if nothing was right."""
    both, found, right = np.sum(np.array(counts, dtype=float), axis=0)
    return float(2 * both / (found + right)) if both else 0.0


def _f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of one label, whether each item has it: [items] boolean."""
    return micro_f1([((gold & predicted).sum(), predicted.sum(), gold.sum())])
