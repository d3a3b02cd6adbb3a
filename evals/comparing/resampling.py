"""Resampling of items that two models share: their scores on other items, or with their answers mixed.

Items that share a text (the questions on one contract) are drawn together: they err together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr, stdtrit

Value = float | tuple[float | str, ...]

_CHUNK = 2**22
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


def exchange(
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
    """Share of exchanged differences at least as far from zero, the observed one among them.

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
    step = max(1, _CHUNK // entries)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _heads(generator: np.random.Generator, times: np.ndarray, size: int) -> np.ndarray:
    """Heads among `times` tosses of a fair coin: [size, units]."""
    once = times == 1
    heads = np.empty((size, len(times)))
    heads[:, once] = generator.integers(2, size=(size, int(once.sum())), dtype=np.int8)
    heads[:, ~once] = generator.binomial(times[~once], 0.5, size=(size, int((~once).sum())))
    return heads
