"""What paired scores of two models say: values before and after, their difference, confidence intervals.

Both models are measured on the same items, so the difference is resampled pair by pair: what is hard for
both does not widen its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
_CHUNK = 2**22


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; None where a single observation says nothing of the noise."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """One measure of two models on the same items; `difference` is after minus before."""

    before: Interval
    after: Interval
    difference: Interval


def compare_accuracy(before: np.ndarray, after: np.ndarray, *, confidence: float, seed: int) -> Comparison:
    """Compare shares of right answers.

    Shares have Wilson's interval, the difference a paired bootstrap over items.

    Args:
        before, after: [items] 0 or 1, in the same order.
    """
    pairs = np.stack([before, after])
    difference = _bootstrap(pairs, lambda sums, weight: (sums[1] - sums[0]) / weight, confidence, seed)
    return Comparison(_share(before, confidence), _share(after, confidence), difference)


def compare_bits_per_byte(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    *,
    confidence: float,
    seed: int,
) -> Comparison:
    """Compare bits per byte, Σ nats / (ln 2 · Σ bytes), by one bootstrap over documents.

    Args:
        before, after: nats and bytes, each [documents], of the same documents in the same order.
    """
    columns = np.stack([*before, *after]).astype(float)

    def bits(nats: int) -> Callable[[np.ndarray, float], np.ndarray]:
        return lambda sums, _: sums[nats] / sums[nats + 1] / math.log(2)

    first, second = bits(0), bits(2)
    return Comparison(
        before=_bootstrap(columns, first, confidence, seed),
        after=_bootstrap(columns, second, confidence, seed),
        difference=_bootstrap(columns, lambda sums, n: second(sums, n) - first(sums, n), confidence, seed),
    )


def _share(right: np.ndarray, confidence: float) -> Interval:
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(confidence, method="wilson")
    return Interval(float(right.mean()), float(interval.low), float(interval.high))


def _bootstrap(
    columns: np.ndarray, statistic: Callable[[np.ndarray, float], np.ndarray], confidence: float, seed: int
) -> Interval:
    """Percentile bootstrap of a statistic of column sums.

    Args:
        columns: [measures, observations].
        statistic: (sums [measures, ...], number of observations) -> [...].
    """
    count = columns.shape[1]
    value = float(statistic(columns.sum(1), count))
    if count < 2:
        return Interval(value, None, None)
    generator = np.random.default_rng(seed)
    draws = []
    left = RESAMPLES
    while left:
        size = min(left, max(1, _CHUNK // count))
        times = generator.multinomial(count, np.full(count, 1 / count), size=size)  # [size, observations]
        draws.append(statistic(columns @ times.T, count))
        left -= size
    low, high = np.quantile(np.concatenate(draws), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
