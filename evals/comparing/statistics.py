"""Compute paired statistics of two models on the same items: proportions, resampling, bits per byte.

The difference is that of pairs, so that items which are hard for both models do not widen its interval.

Paired proportions: only items on which the models disagree tell them apart. Of n items, `won` are right under
the second model alone and `lost` under the first alone. The difference of the shares of right answers is
(won - lost) / n.

Resampling: scores of other items (bootstrap), or of exchanged answers (permutation). Items that share a text
(the questions on one contract) are drawn together, because they err together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, ndtr, ndtri, stdtrit
from scipy.stats import binom, binomtest

_TINY = 1e-9


def mcnemar(won: int, lost: int) -> float:
    """Compute the exact two-sided p-value of McNemar's test, in which a disagreement is a coin toss."""
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def score_interval(n: int, won: int, lost: int, confidence: float) -> tuple[float, float]:
    """Compute the interval of the difference: all values that a score test does not reject.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17. Unlike the bootstrap, it has a width where the models
    (nearly) always agree.

    Args:
        n: Number of items.
        won: Number of items that are right under the second model alone.
        lost: Number of items that are right under the first model alone.
        confidence: Level of the interval.
    """
    z = float(ndtri((1 + confidence) / 2))
    return -_upper_limit(n, lost, won, z), _upper_limit(n, won, lost, z)


def _upper_limit(n: int, won: int, lost: int, z: float) -> float:
    def excess(difference: float) -> float:
        """Return a positive number where `difference` is rejected as too large."""
        return n * difference - (won - lost) - z * _deviation(n, won, lost, difference)

    observed = (won - lost) / n
    return 1.0 if excess(1.0) <= 0 else float(brentq(excess, observed + _TINY * (1 - observed), 1.0))


def _deviation(n: int, won: int, lost: int, difference: float) -> float:
    """Compute the standard deviation of won - lost if `difference` were true (Tango 1998)."""
    half = (2 * n - won + lost) * difference - won - lost
    rest = difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, half**2 + 8 * n * lost * rest)) - half) / (
        4 * n
    )  # probability of losing an item
    return math.sqrt(max(0.0, n * (2 * likeliest + rest)))


def power(n: int, disagreement: float, difference: float, level: float) -> float:
    """Compute the probability that `mcnemar` gives p <= `level`.

    Args:
        n: Number of items.
        disagreement: Share of items on which the models disagree.
        difference: True difference of the shares, 0 to `disagreement`.
        level: Level of the test.
    """
    low, high = binom.ppf([1e-9, 1 - 1e-9], n, disagreement)
    disagreements = np.arange(int(low), int(high) + 1)
    likely = binom.pmf(disagreements, n, disagreement)
    most = _most(n, level)[disagreements]
    won = (1 + difference / disagreement) / 2
    possible = most >= 0
    few, items = most[possible], disagreements[possible]
    return float(likely[possible] @ (bdtr(few, items, won) + bdtr(few, items, 1 - won)))


@lru_cache(maxsize=64)
def _most(n: int, level: float) -> np.ndarray:
    """Return the most wins (or losses) with p <= `level` for 0 to n disagreements; -1 where no number is."""
    disagreements = np.arange(n + 1)
    most = binom.ppf(level / 2, disagreements, 0.5).astype(int)
    return most - (2 * bdtr(most, disagreements, 0.5) > level)


def minimum_detectable_effect(
    n: int, disagreement: float, *, level: float, power_wanted: float
) -> float | None:
    """Compute the smallest true difference of the shares that `mcnemar` finds with the wanted power.

    Args:
        n: Number of items.
        disagreement: Share of items on which the models disagree; more if the difference itself needs more.
        level: Level of the test.
        power_wanted: Probability of finding the difference.

    Returns:
        The difference; None where n items are too few to find any.
    """

    def excess(difference: float) -> float:
        return power(n, max(disagreement, difference), difference, level) - power_wanted

    smallest = 1e-3 / n
    return None if excess(1.0) < 0 else float(brentq(excess, smallest, 1.0, xtol=1e-4 / n))


Value = float | tuple[float | str, ...]

_WEIGHTS_AT_ONCE = 2**22
"""Weights held at once."""


class Aggregate(Protocol):
    """Function of a task's score, as `evals.metrics.aggregate`.

    Args:
        name: Name of the aggregation.
        values: [items] Values of the items.
        weights: [draws, items] Count of each item in each draw; all once if None.

    Returns:
        The score; [draws] with weights.
    """

    def __call__(
        self, name: str, values: Sequence[Value], weights: np.ndarray | None = None
    ) -> float | np.ndarray: ...


@dataclass(frozen=True)
class Pairs:
    """Values of the same items under two models, with equal pairs put together.

    Attributes:
        first: [entries] Values under the first model.
        second: [entries] Values under the second model.
        unit: [entries] Index of the entry's unit; a unit is drawn as a whole.
        times: [units] Number of occurrences of the unit.
    """

    first: list[Value]
    second: list[Value]
    unit: np.ndarray
    times: np.ndarray

    @property
    def clustered(self) -> bool:
        """Return True if units have several items."""
        return len(self.times) < len(self.first)

    @property
    def units(self) -> int:
        """Count the independent observations."""
        return int(self.times.sum())

    @property
    def differing(self) -> int:
        """Count the units with an item whose values differ."""
        differ = [one != other for one, other in zip(self.first, self.second, strict=True)]
        return int(self.times[np.unique(self.unit[differ])].sum())


def pair(first: Sequence[Value], second: Sequence[Value], clusters: Sequence[str] | None = None) -> Pairs:
    """Pair values in the items' order; `clusters` names the text that an item shares with others."""
    if clusters is not None and len(set(clusters)) < len(clusters):
        _, unit = np.unique(clusters, return_inverse=True)
        return Pairs(list(first), list(second), unit, np.ones(unit.max() + 1, dtype=int))
    counts = Counter(zip(first, second, strict=True))
    entries = range(len(counts))
    one, other = ([values[side] for values in counts] for side in (0, 1))
    return Pairs(one, other, np.array(entries), np.array(list(counts.values())))


def bootstrap(
    pairs: Pairs, score: Callable[[Sequence[Value], np.ndarray], np.ndarray], draws: int, seed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Score both models on the same items drawn with replacement.

    Args:
        pairs: Values of the items under both models.
        score: Function of values [entries] and weights [draws, entries].
        draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        [draws] scores of the first model, [draws] of the second
    """
    generator = np.random.default_rng(seed)
    found = []
    for size in chunks(draws, len(pairs.first)):
        weights = resample_counts(generator, pairs.times, size)[:, pairs.unit]  # [draws, entries]
        found.append((score(pairs.first, weights), score(pairs.second, weights)))
    first, second = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second)


def permutation_distribution(
    pairs: Pairs, score: Callable[[Sequence[Value], np.ndarray], np.ndarray], draws: int, seed: Sequence[int]
) -> np.ndarray:
    """Draw differences, second minus first, with the models' answers to each item exchanged by a coin toss.

    This is their distribution under the null hypothesis of a permutation test: both models are one.

    Args:
        pairs: Values of the items under both models.
        score: Function of values [entries] and weights [draws, entries].
        draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        [draws] differences
    """
    generator = np.random.default_rng(seed)
    both = [*pairs.first, *pairs.second]
    found = []
    for size in chunks(draws, 2 * len(pairs.first)):
        swapped = _heads(generator, pairs.times, size)[:, pairs.unit]
        kept = pairs.times[pairs.unit] - swapped  # [draws, entries]
        found.append(
            score(both, np.concatenate([swapped, kept], axis=1))
            - score(both, np.concatenate([kept, swapped], axis=1))
        )
    return np.concatenate(found)


def p_value(difference: float, draws: np.ndarray) -> float:
    """Compute the share of null differences at least as far from zero, the observed one among them.

    Draws without a score (a class that was never drawn) count as far.
    """
    nearer = np.abs(draws) < abs(difference) * (1 - 1e-9) - 1e-12
    return (1 + int((~nearer).sum())) / (1 + len(draws))


def percentiles(draws: np.ndarray, units: int, confidence: float) -> tuple[float, float]:
    """Compute the percentile interval of bootstrap draws, widened for few observations as Student's is.

    Hesterberg 2015, "What teachers should know about the bootstrap" (expanded percentiles).

    Args:
        draws: [draws] Scores of resamples.
        units: Number of independent observations that were resampled, two or more.
        confidence: Level of the interval.
    """
    tail = ndtr(-math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + confidence) / 2))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def resample_counts(generator: np.random.Generator, times: np.ndarray, size: int) -> np.ndarray:
    """Draw all units with replacement, and count each: [size, units].

    Few kinds with many occurrences are drawn by their number, many single ones one by one: it is faster.
    """
    count, kinds = int(times.sum()), len(times)
    if kinds * 2 < count:
        return generator.multinomial(count, times / count, size=size).astype(float)
    found = np.repeat(np.arange(kinds), times)[generator.integers(count, size=(size, count))]
    found += kinds * np.arange(size)[:, None]
    return np.bincount(found.ravel(), minlength=size * kinds).reshape(size, kinds).astype(float)


def chunks(draws: int, entries: int) -> Iterator[int]:
    """Yield the sizes of the steps in which draws are made."""
    step = max(1, _WEIGHTS_AT_ONCE // entries)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _heads(generator: np.random.Generator, times: np.ndarray, size: int) -> np.ndarray:
    """Count heads among `times` tosses of a fair coin: [size, units]."""
    once = times == 1
    heads = np.empty((size, len(times)))
    heads[:, once] = generator.integers(2, size=(size, int(once.sum())), dtype=np.int8)
    heads[:, ~once] = generator.binomial(times[~once], 0.5, size=(size, int((~once).sum())))
    return heads


RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval; None where a single observation shows no noise."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedEstimates:
    """A measure of two models on the same items; `difference` is after minus before."""

    before: Estimate
    after: Estimate
    difference: Estimate


def compare_accuracy(before: np.ndarray, after: np.ndarray, *, confidence: float) -> PairedEstimates:
    """Compare shares of right answers; shares have Wilson's interval, the difference Tango's.

    Args:
        before: [items] 0 or 1 under the model before.
        after: [items] 0 or 1 under the model after, in the same order.
        confidence: Level of the intervals.
    """
    won, lost = int((after > before).sum()), int((before > after).sum())
    limits = score_interval(len(before), won, lost, confidence)
    difference = Estimate((won - lost) / len(before), *limits)
    return PairedEstimates(_share(before, confidence), _share(after, confidence), difference)


def compare_means(before: np.ndarray, after: np.ndarray, *, confidence: float) -> PairedEstimates:
    """Compare means of scores of the same [items]; all intervals are Student's, the difference is paired."""
    return PairedEstimates(*(_mean(scores, confidence) for scores in (before, after, after - before)))


def compare_bits_per_byte(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    *,
    confidence: float,
    seed: int,
) -> PairedEstimates:
    """Compare bits per byte, Σ nats / (ln 2 · Σ bytes), by one bootstrap over documents.

    Args:
        before: Nats and bytes under the model before, [documents] each.
        after: Nats and bytes under the model after, of the same documents in the same order.
        confidence: Level of the intervals.
        seed: Seed of the bootstrap.
    """
    columns = np.stack([*before, *after]).astype(float)  # nats, bytes, nats, bytes
    value, draws = (
        [sums[nats] / sums[nats + 1] / math.log(2) for nats in (0, 2)]
        for sums in (columns.sum(1), _resampled_sums(columns, seed))
    )
    count = columns.shape[1]
    return PairedEstimates(
        before=_interval(value[0], draws[0], count, confidence),
        after=_interval(value[1], draws[1], count, confidence),
        difference=_interval(value[1] - value[0], draws[1] - draws[0], count, confidence),
    )


def _share(right: np.ndarray, confidence: float) -> Estimate:
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(confidence, method="wilson")
    return Estimate(float(right.mean()), float(interval.low), float(interval.high))


def _mean(scores: np.ndarray, confidence: float) -> Estimate:
    """Compute a mean with its interval; a single score has none."""
    count, mean = len(scores), float(scores.mean())
    if count < 2:
        return Estimate(mean, None, None)
    half = float(stdtrit(count - 1, (1 + confidence) / 2) * scores.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half)


def _resampled_sums(columns: np.ndarray, seed: int) -> np.ndarray:
    """Compute the sums of bootstrap samples.

    Args:
        columns: [measures, observations] Values; an observation is drawn with all its measures.
        seed: Seed of the bootstrap.

    Returns:
        [measures, `RESAMPLES`]
    """
    count = columns.shape[1]
    generator, once = np.random.default_rng(seed), np.ones(count, dtype=int)
    sums = [columns @ resample_counts(generator, once, size).T for size in chunks(RESAMPLES, count)]
    return np.concatenate(sums, axis=1)


def _interval(value: float, draws: np.ndarray, observations: int, confidence: float) -> Estimate:
    """Compute the interval of the draws; a single observation has none."""
    if observations < 2:
        return Estimate(float(value), None, None)
    return Estimate(float(value), *percentiles(draws, observations, confidence))
