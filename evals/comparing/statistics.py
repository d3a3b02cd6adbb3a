"""What paired scores of two models say: values before and after, their difference, confidence intervals.

Both models are measured on the same items, so the difference is that of pairs: what is hard for both does
not widen its interval.

Right or wrong, two models on the same items: exact test, interval, and what a task of that size can see.

Only items on which the models disagree tell them apart. Of n items `won` are right under the second model
alone and `lost` under the first alone; the difference of the shares of right answers is (won - lost) / n.

Resampling of items that two models share: their scores on other items, or with their answers mixed.

Items that share a text (the questions on one contract) are drawn together: they err together.
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
    """Exact two-sided p-value of McNemar's test: under no difference a disagreement is a toss of a coin."""
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def score_interval(n: int, won: int, lost: int, confidence: float) -> tuple[float, float]:
    """Interval of the difference: every value that a score test does not reject.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17. Unlike the bootstrap it has a width where the
    models (nearly) always agree.
    """
    z = float(ndtri((1 + confidence) / 2))
    return -_upper_limit(n, lost, won, z), _upper_limit(n, won, lost, z)


def _upper_limit(n: int, won: int, lost: int, z: float) -> float:
    def excess(difference: float) -> float:
        """Positive where `difference` is rejected as too large."""
        return n * difference - (won - lost) - z * _deviation(n, won, lost, difference)

    observed = (won - lost) / n
    return 1.0 if excess(1.0) <= 0 else float(brentq(excess, observed + _TINY * (1 - observed), 1.0))


def _deviation(n: int, won: int, lost: int, difference: float) -> float:
    """Standard deviation of won - lost if that were the true difference (Tango 1998)."""
    half = (2 * n - won + lost) * difference - won - lost
    rest = difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, half**2 + 8 * n * lost * rest)) - half) / (
        4 * n
    )  # probability of losing an item
    return math.sqrt(max(0.0, n * (2 * likeliest + rest)))


def power(n: int, disagreement: float, difference: float, level: float) -> float:
    """Probability that `mcnemar` gives p <= `level`.

    Args:
        disagreement: share of items on which the models disagree.
        difference: true difference of the shares, 0 to `disagreement`.
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
    """For 0 to n disagreements, how many of them may be won (or lost) with p <= `level`; -1 if none."""
    disagreements = np.arange(n + 1)
    most = binom.ppf(level / 2, disagreements, 0.5).astype(int)
    return most - (2 * bdtr(most, disagreements, 0.5) > level)


def minimum_detectable_effect(
    n: int, disagreement: float, *, level: float, power_wanted: float
) -> float | None:
    """Smallest true difference of the shares that `mcnemar` finds with the power wanted.

    The models are taken to disagree on a share `disagreement` of the items, or on as many as the difference
    itself needs.

    Returns:
        None where n items are too few to find any.
    """

    def excess(difference: float) -> float:
        return power(n, max(disagreement, difference), difference, level) - power_wanted

    smallest = 1e-3 / n
    return None if excess(1.0) < 0 else float(brentq(excess, smallest, 1.0, xtol=1e-4 / n))


Value = float | tuple[float | str, ...]

_WEIGHTS_AT_ONCE = 2**22
"""Weights held at once."""


class Aggregate(Protocol):
    """A task's score from its items' values, as `evals.metrics.aggregate` makes it.

    Args:
        name: of the aggregation.
        values: [items]
        weights: [draws, items], how often an item counts in each draw; all once if None.

    Returns:
        The score; [draws] with weights.
    """

    def __call__(
        self, name: str, values: Sequence[Value], weights: np.ndarray | None = None
    ) -> float | np.ndarray: ...


@dataclass(frozen=True)
class Pairs:
    """Values of the same items under two models, equal ones put together.

    Attributes:
        first, second: [entries] what each model makes of an item.
        unit: [entries] which unit an entry belongs to; a unit is drawn as a whole.
        times: [units] how often the unit is there.
    """

    first: list[Value]
    second: list[Value]
    unit: np.ndarray
    times: np.ndarray

    @property
    def clustered(self) -> bool:
        """Whether units have several items."""
        return len(self.times) < len(self.first)

    @property
    def units(self) -> int:
        """Independent observations."""
        return int(self.times.sum())

    @property
    def differing(self) -> int:
        """Units with an item of which the models make different things."""
        differ = [one != other for one, other in zip(self.first, self.second, strict=True)]
        return int(self.times[np.unique(self.unit[differ])].sum())


def pair(first: Sequence[Value], second: Sequence[Value], clusters: Sequence[str] | None = None) -> Pairs:
    """Pairs of values in the items' order; `clusters` names the text that an item shares with others."""
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
    """Both models' scores on items drawn with replacement, the same ones for both.

    Args:
        score: of values [entries] with weights [draws, entries].

    Returns:
        [draws] of the first model, [draws] of the second
    """
    generator = np.random.default_rng(seed)
    found = []
    for size in chunks(draws, len(pairs.first)):
        weights = drawn(generator, pairs.times, size)[:, pairs.unit]  # [draws, entries]
        found.append((score(pairs.first, weights), score(pairs.second, weights)))
    first, second = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second)


def permutation_distribution(
    pairs: Pairs, score: Callable[[Sequence[Value], np.ndarray], np.ndarray], draws: int, seed: Sequence[int]
) -> np.ndarray:
    """Differences, second minus first, if a coin decided for every item whose answer is whose.

    Returns:
        [draws]
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
    """Share of null_differences differences at least as far from zero, the observed one among them.

    Draws without a score (a class that was never drawn) count as far.
    """
    nearer = np.abs(draws) < abs(difference) * (1 - 1e-9) - 1e-12
    return (1 + int((~nearer).sum())) / (1 + len(draws))


def percentiles(draws: np.ndarray, units: int, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap draws, widened for few observations as Student's is.

    Hesterberg 2015, "What teachers should know about the bootstrap" (expanded percentiles).

    Args:
        units: independent observations that were resampled, two or more.
    """
    tail = ndtr(-math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + confidence) / 2))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def drawn(generator: np.random.Generator, times: np.ndarray, size: int) -> np.ndarray:
    """How often each unit is among as many as there are, drawn with replacement: [size, units].

    Few kinds that are there many times are drawn by their number, many single ones one by one: it is faster.
    """
    count, kinds = int(times.sum()), len(times)
    if kinds * 2 < count:
        return generator.multinomial(count, times / count, size=size).astype(float)
    found = np.repeat(np.arange(kinds), times)[generator.integers(count, size=(size, count))]
    found += kinds * np.arange(size)[:, None]
    return np.bincount(found.ravel(), minlength=size * kinds).reshape(size, kinds).astype(float)


def chunks(draws: int, entries: int) -> Iterator[int]:
    """Sizes of the steps in which the draws are made."""
    step = max(1, _WEIGHTS_AT_ONCE // entries)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _heads(generator: np.random.Generator, times: np.ndarray, size: int) -> np.ndarray:
    """Heads among `times` tosses of a fair coin: [size, units]."""
    once = times == 1
    heads = np.empty((size, len(times)))
    heads[:, once] = generator.integers(2, size=(size, int(once.sum())), dtype=np.int8)
    heads[:, ~once] = generator.binomial(times[~once], 0.5, size=(size, int((~once).sum())))
    return heads


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

    Shares have Wilson's interval, the difference Tango's (`evals.comparing.statistics`).

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
