"""What paired scores of two models say: values before and after, their difference, confidence intervals.

Both models are measured on the same items, so the difference is that of pairs: what is hard for both does
not widen its interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from evals.comparing.paired_shares import score_interval
from evals.comparing.resampling import chunks, drawn, percentiles

RESAMPLES = 10_000


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


def compare_accuracy(before: np.ndarray, after: np.ndarray, *, confidence: float) -> Comparison:
    """Compare shares of right answers.

    Shares have Wilson's interval, the difference Tango's (`evals.comparing.paired_shares`).

    Args:
        before, after: [items] 0 or 1, in the same order.
    """
    won, lost = int((after > before).sum()), int((before > after).sum())
    limits = score_interval(len(before), won, lost, confidence)
    difference = Interval((won - lost) / len(before), *limits)
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
    columns = np.stack([*before, *after]).astype(float)  # nats, bytes, nats, bytes
    value, draws = (
        [sums[nats] / sums[nats + 1] / math.log(2) for nats in (0, 2)]
        for sums in (columns.sum(1), _resampled_sums(columns, seed))
    )
    count = columns.shape[1]
    return Comparison(
        before=_interval(value[0], draws[0], count, confidence),
        after=_interval(value[1], draws[1], count, confidence),
        difference=_interval(value[1] - value[0], draws[1] - draws[0], count, confidence),
    )


def _share(right: np.ndarray, confidence: float) -> Interval:
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(confidence, method="wilson")
    return Interval(float(right.mean()), float(interval.low), float(interval.high))


def _resampled_sums(columns: np.ndarray, seed: int) -> np.ndarray:
    """Sums of bootstrap samples.

    Args:
        columns: [measures, observations]; an observation is drawn with all its measures.

    Returns:
        [measures, `RESAMPLES`]
    """
    count = columns.shape[1]
    generator, once = np.random.default_rng(seed), np.ones(count, dtype=int)
    sums = [columns @ drawn(generator, once, size).T for size in chunks(RESAMPLES, count)]
    return np.concatenate(sums, axis=1)


def _interval(value: float, draws: np.ndarray, observations: int, confidence: float) -> Interval:
    """Interval of the draws; a single observation has none."""
    if observations < 2:
        return Interval(float(value), None, None)
    return Interval(float(value), *percentiles(draws, observations, confidence))
