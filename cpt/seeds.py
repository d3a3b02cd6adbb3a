"""Compute the mean of a figure over the seeds of a training, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """A mean over seeds with its interval; no bounds for one seed."""

    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]


def mean_over_seeds(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """Return the mean of one value for each seed, with its interval by Student's t."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Mean(mean, None, None, tuple(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return Mean(mean, mean - half, mean + half, tuple(values))
