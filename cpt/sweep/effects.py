"""Compute effects of settings, the Pareto front and the best configuration from the results of a sweep.

Seeds are blocks: every statistic is computed for each seed alone, and its interval is Student's t over the
seeds. Readings of one training are not independent, so that intervals over its documents would be too narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from cpt.seeds import CONFIDENCE, Mean, mean_over_seeds


class Observation(NamedTuple):
    """One run of a sweep: level or number of every factor, seed, and one measured change."""

    settings: Mapping[str, Hashable | float]
    seed: int
    value: float


class Effect(NamedTuple):
    """The effect of a factor: of each level against the first one, or of a doubling (an increase by one).

    Attributes:
        level: The level; None for the slope of a range.
        change: Change of the measure.
    """

    level: Any
    change: Mean


def main_effects(
    observations: Sequence[Observation],
    levels: Mapping[str, Sequence[Hashable]],
    ranges: Mapping[str, bool],
) -> dict[str, list[Effect]]:
    """Return the effect of every factor with the others held equal.

    The model is additive, fitted by least squares for each seed alone. For a complete grid this gives the
    differences of the levels' means.

    Args:
        observations: Runs.
        levels: Levels of each factor that has levels; the first one is the reference.
        ranges: Factors that are ranges: True if the scale is logarithmic, with effects per doubling.

    Returns:
        Factor -> effects; none from seeds whose runs do not identify all effects (a level is missing).
    """
    columns = [(key, level) for key, each in levels.items() for level in each[1:]]
    columns += [(key, None) for key in ranges]
    by_seed: dict[tuple[str, Any], list[float]] = {column: [] for column in columns}
    for seed in dict.fromkeys(each.seed for each in observations):
        own = [each for each in observations if each.seed == seed]
        design = np.array([[1.0, *(_entry(each, *column, ranges) for column in columns)] for each in own])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            continue
        found = np.linalg.lstsq(design, np.array([each.value for each in own]), rcond=None)[0]
        for column, value in zip(columns, found[1:], strict=True):
            by_seed[column].append(float(value))
    effects: dict[str, list[Effect]] = {}
    for (key, level), values in by_seed.items():
        if values:
            effects.setdefault(key, []).append(Effect(level, mean_over_seeds(values)))
    return effects


def _entry(observation: Observation, key: str, level: Any, ranges: Mapping[str, bool]) -> float:
    """Return an observation's value in one column of the design."""
    value = observation.settings[key]
    if key not in ranges:
        return float(value == level)
    number = float(value)  # type: ignore[arg-type]
    return math.log2(number) if ranges[key] else number


def cell_means(observations: Sequence[Observation], a: str, b: str) -> dict[tuple[Hashable, Hashable], Mean]:
    """Return the mean of each pair of levels of two factors, over all other factors, by seed first."""
    cells: dict[tuple[Any, Any], dict[int, list[float]]] = {}
    for each in observations:
        cell = cells.setdefault((each.settings[a], each.settings[b]), {})
        cell.setdefault(each.seed, []).append(each.value)
    return {
        pair: mean_over_seeds([math.fsum(values) / len(values) for values in by_seed.values()])
        for pair, by_seed in cells.items()
    }


class Interaction(NamedTuple):
    """The interaction of two factors: by how much the effect of one depends on the other.

    Attributes:
        a, b: Keys of the factors.
        size: Largest difference between the effect of two neighbouring levels of `a` at two levels of `b`.
        beyond_noise: True if the interval of that difference leaves out 0, widened for the number of such
            differences among which it is the largest (Bonferroni); None for one seed.
    """

    a: str
    b: str
    size: float
    beyond_noise: bool | None


def interaction(
    observations: Sequence[Observation], a: str, b: str, levels: Mapping[str, Sequence[Hashable]]
) -> Interaction | None:
    """Return the interaction of two factors with levels; None if no seed has four cells that show it."""
    contrasts = []
    means = {
        seed: cell_means([each for each in observations if each.seed == seed], a, b)
        for seed in dict.fromkeys(each.seed for each in observations)
    }
    for first, second in pairwise(levels[a]):
        for one, other in pairwise(levels[b]):
            corners = [(second, other), (first, other), (second, one), (first, one)]
            values = [
                cells[corners[0]].value
                - cells[corners[1]].value
                - cells[corners[2]].value
                + cells[corners[3]].value
                for cells in means.values()
                if all(corner in cells for corner in corners)
            ]
            if values:
                contrasts.append(values)
    if not contrasts:
        return None
    confidence = 1 - (1 - CONFIDENCE) / len(contrasts)
    largest = max(
        (mean_over_seeds(values, confidence) for values in contrasts), key=lambda mean: abs(mean.value)
    )
    beyond = None if largest.low is None or largest.high is None else not largest.low <= 0 <= largest.high
    return Interaction(a, b, abs(largest.value), beyond)


def pareto_front(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Return the numbers of points that no other point equals or beats on both figures; less is better."""
    return [
        number
        for number, own in points.items()
        if not any(
            other != own and other[0] <= own[0] and other[1] <= own[1]
            for place, other in points.items()
            if place != number
        )
    ]


class Choice(NamedTuple):
    """The best configuration, and how sure that is.

    Attributes:
        number: Number of the configuration.
        held: Whether it is within the limit: "held" (the upper end of the interval is), "not shown" (only
            the mean is), "broken" (no configuration is), or "" without a limit.
        others: Numbers of the other configurations that may be taken, the best first.
        leads: Difference of each other ranked configuration to the best on the same seeds, also of those
            beyond the limit; positive: the best is ahead.
        wins: Number of seeds in which it is the best of the allowed configurations.
        seeds: Number of seeds with a result.
        ahead: Numbers of those of `others` that it is shown to be ahead of: the interval of the difference
            leaves out 0, widened for the number of pairs of configurations (Bonferroni), since the best is
            chosen by the same results. Without that the best of six equal ones is ahead of some other in 30%
            of sweeps with three seeds.
        incomplete: Numbers of configurations that have results for fewer or other seeds, and are not ranked.
    """

    number: int
    held: str
    others: tuple[int, ...]
    leads: Mapping[int, Mean]
    wins: int
    seeds: int
    ahead: frozenset[int]
    incomplete: tuple[int, ...] = ()

    @property
    def runner_up(self) -> int | None:
        """Return the next best configuration that may be taken; None without one."""
        return self.others[0] if self.others else None

    @property
    def lead(self) -> Mean | None:
        """Return the difference of the runner-up; None without one."""
        return self.leads.get(self.others[0]) if self.others else None

    @property
    def open(self) -> tuple[int, ...]:
        """Return the others that the seeds do not tell apart from the best."""
        return tuple(number for number in self.others if number not in self.ahead)


def choose(
    objective: Mapping[int, Mapping[int, float]],
    limited: Mapping[int, Mapping[int, float]] | None = None,
    limit: float = 0.0,
) -> Choice:
    """Return the configuration with the least mean objective among those whose mean is within a limit.

    If none is, the one that exceeds the limit least. Only configurations with the same seeds are ranked, the
    most that several have: one that diverges in two of three trainings is not the best for its third, and
    means over other seeds are means over other held-out documents.

    Args:
        objective: Configuration -> seed -> value to minimise; at least one configuration.
        limited: Configuration -> seed -> value that has a limit; None without one.
        limit: Largest allowed mean.
    """
    sets = Counter(frozenset(seeds) for seeds in objective.values())
    shared = max(sets, key=lambda seeds: (sets[seeds] > 1, len(seeds), sets[seeds]))
    incomplete = tuple(number for number, seeds in objective.items() if seeds.keys() != shared)
    objective = {number: seeds for number, seeds in objective.items() if seeds.keys() == shared}
    means = {number: mean_over_seeds(list(seeds.values())) for number, seeds in objective.items()}
    bounded = {} if limited is None else {n: mean_over_seeds(list(v.values())) for n, v in limited.items()}
    allowed = [n for n in means if limited is None or (n in bounded and bounded[n].value <= limit)]
    if not allowed:
        known = [number for number in means if number in bounded] or list(means)
        allowed = [min(known, key=lambda n: bounded[n].value if n in bounded else means[n].value)]
    ranked = sorted(allowed, key=lambda number: means[number].value)
    best = ranked[0]
    differences = {
        other: [values[seed] - objective[best][seed] for seed in objective[best]]
        for other, values in objective.items()
        if other != best
    }
    leads = {other: mean_over_seeds(values) for other, values in differences.items()}
    confidence = 1 - (1 - CONFIDENCE) / max(1, math.comb(len(ranked), 2))
    lows = {other: mean_over_seeds(differences[other], confidence).low for other in ranked[1:]}
    ahead = frozenset(other for other, low in lows.items() if low is not None and low > 0)
    wins = sum(
        1
        for seed, value in objective[best].items()
        if all(value <= objective[other][seed] for other in allowed)
    )
    held = _held(bounded.get(best), limited, limit)
    return Choice(best, held, tuple(ranked[1:]), leads, wins, len(shared), ahead, incomplete)


def _held(bounded: Mean | None, limited: object, limit: float) -> str:
    if limited is None or bounded is None:
        return ""
    if bounded.value > limit:
        return "broken"
    return "held" if bounded.high is not None and bounded.high <= limit else "not shown"
