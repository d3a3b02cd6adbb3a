"""Correction of p-values for the number of questions asked, without those that no data could answer.

A few items cannot give a small p-value whatever they show: five that all change in one direction give
2 · 0.5^5 = 0.0625. Such questions cannot lead to a false finding, so the correction does not count them
(Tarone 1990, "A modified Bonferroni method for discrete data", Biometrics 46): it divides the level by the
smallest k for which no more than k questions can have p <= level / k. The smallest p-value of a question must
not depend on which model is better; given the number of items on which they differ, it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Correction = Literal["holm", "bh", "none"]
"""holm: with the confidence asked no finding is false; bh: of the findings at most the level is false."""

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


def adjust(
    p_values: Sequence[float],
    correction: Correction,
    smallest: Sequence[float] | None = None,
    level: float = 0.05,
) -> list[float]:
    """p-values to be held against the level as if each were the only one.

    holm: Holm 1979, "A simple sequentially rejective multiple test procedure", with Tarone's divisor for the
    questions left at each step (Hommel and Krummenauer 1998, "Improvements and modifications of Tarone's
    multiple test procedure for discrete data", Biometrics 54). Fewer questions never have a larger
    divisor, so that the first false finding is as unlikely as Tarone's procedure makes it: no finding is
    false with probability 1 - level, whatever depends on what.

    bh: Benjamini and Hochberg 1995, "Controlling the false discovery rate", among the questions that can have
    p <= level. Gilbert 2005, "A modified false discovery rate multiple-comparisons procedure for discrete
    data", takes the smaller set of those that can have p <= level / k, with Tarone's k; with many findings,
    questions outside it can be found too.

    Args:
        smallest: smallest p-value that each question can have; 0 for all if not given.
        level: that the adjusted p-values will be held against: Tarone's divisor depends on it.
    """
    p = np.asarray(p_values, dtype=float)
    least = np.zeros_like(p) if smallest is None else np.asarray(smallest, dtype=float)
    if correction == "none" or not len(p):
        return p.tolist()
    adjusted, order = p.copy(), np.argsort(p)
    if correction == "holm":
        divisors = [divisor(least[order[place:]], level) for place in range(len(p))]
        adjusted[order] = np.maximum.accumulate(p[order] * divisors)
    else:
        order = order[least[order] <= level]
        ratios = p[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted[order] = np.minimum.accumulate(ratios[::-1])[::-1]
    return np.minimum(adjusted, 1.0).tolist()


def divisor(smallest: Sequence[float] | np.ndarray, level: float) -> int:
    """Return Tarone's number of questions: the smallest k with at most k smallest p-values <= level / k."""
    least = np.sort(np.asarray(smallest, dtype=float))
    return next(k for k in range(1, len(least) + 2) if np.searchsorted(least, level / k, side="right") <= k)
