"""Correction of p-values for the number of questions asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Correction = Literal["holm", "bh", "none"]
"""holm: with the confidence asked no finding is false; bh: of the findings at most the level is false."""

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


def adjust(p_values: Sequence[float], correction: Correction) -> list[float]:
    """p-values to be held against the level as if each were the only one.

    Holm 1979, "A simple sequentially rejective multiple test procedure"; Benjamini and Hochberg 1995,
    "Controlling the false discovery rate".
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    ranks = np.arange(1, len(p) + 1)
    if correction == "none" or not len(p):
        return p.tolist()
    if correction == "holm":
        sorted_p = np.maximum.accumulate(p[order] * (len(p) + 1 - ranks))
    else:
        sorted_p = np.minimum.accumulate((p[order] * len(p) / ranks)[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(sorted_p, 1.0)
    return adjusted.tolist()
