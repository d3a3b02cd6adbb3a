"""Join the results of a sweep's runs into facts: configurations, effects, front and recommendation."""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any

from pydantic import Field

from cpt.report.schema import Fact, Interval
from cpt.seeds import mean_over_seeds
from cpt.sources import DOMAIN, GENERAL
from cpt.sweep.effects import (
    Choice,
    Observation,
    cell_means,
    choose,
    interaction,
    main_effects,
    pareto_front,
)
from cpt.sweep.factors import Factor, size_of
from cpt.sweep.measures import more_is_better
from cpt.sweep.state import SweepFile, SweepRequest, Trial
from cpt.sweep.words import interval, sentences


class Configuration(Fact):
    """A configuration with the means of its seeds.

    changes: change from the base by measure, with the interval over seeds.
    difference: of the minimised measure from the recommended configuration, on the same seeds.
    runs, failed: names of the runs with and without a result.
    broken: number of runs in which a limit of the recipe was broken or not shown to be held.
    """

    number: int
    values: dict[str, Any]
    changes: dict[str, Interval]
    difference: Interval | None = None
    runs: list[str]
    failed: list[str]
    broken: int = 0
    seconds: float = 0.0
    on_front: bool = False


class LevelEffect(Fact):
    """The effect of a level against the factor's first one, by measure; of a range (no level), its slope."""

    level: Any
    changes: dict[str, Interval]


class FactorEffects(Fact):
    """The effects of one factor. reference: its first level; None for a range. unit: unit of a slope."""

    key: str
    reference: Any = None
    unit: str = ""
    levels: list[LevelEffect]


class InteractionFact(Fact):
    """The interaction of two factors on one measure.

    cells: mean of each pair of levels: [level of a, level of b, mean].
    beyond_noise: whether the interval over seeds leaves out 0; None for one seed.
    """

    a: str
    b: str
    measure: str
    size: float
    beyond_noise: bool | None
    cells: list[tuple[Any, Any, float]]


class Recommendation(Fact):
    """The configuration to take. overrides: its settings for `cpt run`. sentences: why, and how sure."""

    number: int
    overrides: list[str]
    held: str
    sentences: list[str]


class SweepResult(Fact):
    """The facts of a sweep.

    measures: names of all measures, the minimised one and the limited one first.
    compared: whether some configurations have results for the same seeds.
    unproposed: number of runs of configurations that are still to be proposed.
    """

    name: str
    recipe: str
    created: str
    minimize: str
    limit: str = ""
    method: str
    seeds: list[int]
    factors: list[str]
    measures: list[str]
    configurations: list[Configuration]
    front: list[int] = Field(default=[])
    compared: bool = True
    effects: list[FactorEffects] = Field(default=[])
    interactions: list[InteractionFact] = Field(default=[])
    recommendation: Recommendation | None = None
    failed: dict[str, str] = Field(default={})
    unfinished: list[str] = Field(default=[])
    unproposed: int = 0
    left_out: str = ""
    notes: list[str] = Field(default=[])


def result_of(file: SweepFile, created: str) -> SweepResult:
    """Return the facts of a sweep, finished or not.

    Args:
        file: State of the sweep.
        created: Current time, ISO 8601.
    """
    request = file.request
    asked = [trial for trial in file.trials if trial.seed in request.seeds]
    done = [trial for trial in asked if trial.state == "done"]
    measures = _measures(file, done)
    rows = [_configuration(number, asked) for number in dict.fromkeys(trial.number for trial in asked)]
    axes = measures[:2] if len(measures) > 1 else []
    signs = [-1.0 if more_is_better(name) else 1.0 for name in axes]
    points: dict[int, tuple[float, float]] = {}
    choice = _choice(file, done)
    compared = choice is None or bool(choice.leads) or not choice.incomplete
    for row in rows:  # a mean of fewer or other seeds is no match for those of all
        ranked = choice is not None and row.number not in choice.incomplete
        if axes and compared and ranked and all(name in row.changes for name in axes):
            x, y = (sign * row.changes[name].value for sign, name in zip(signs, axes, strict=True))
            points[row.number] = (x, y)
    front = pareto_front(points)
    rows = [
        row.model_copy(
            update={
                "on_front": row.number in front,
                "difference": _difference(choice, row.number, request.minimize),
            }
        )
        for row in rows
    ]
    return SweepResult(
        name=request.name,
        recipe=request.recipe,
        created=created,
        minimize=request.minimize,
        limit=str(request.limit) if request.limit else "",
        method=request.method,
        seeds=list(request.seeds),
        factors=[factor.key for factor in request.factors],
        measures=measures,
        configurations=rows,
        front=sorted(front, key=lambda number: points[number][0]),
        effects=_effects(request.factors, done, measures),
        interactions=_interactions(request.factors, done, measures[:2]),
        compared=compared,
        recommendation=_recommendation(choice, file, rows) if choice and compared else None,
        failed={trial.run: trial.message for trial in asked if trial.state == "failed"},
        unfinished=[trial.run for trial in asked if trial.state in ("waiting", "running")],
        unproposed=0 if file.left_out else _unproposed(request, len(rows)),
        left_out=file.left_out,
        notes=list(file.notes),
    )


def _unproposed(request: SweepRequest, proposed: int) -> int:
    """Return the number of runs of configurations that the results will propose."""
    if request.method != "tpe":
        return 0
    points = min(request.points or 0, size_of(request.factors) or sys.maxsize)
    return max(0, points - proposed) * len(request.seeds)


def _measures(file: SweepFile, done: Sequence[Trial]) -> list[str]:
    """Return the measures of all runs, the minimised one first, then the limited one and held-out texts."""
    limit = file.request.limit.probe if file.request.limit else GENERAL
    found = dict.fromkeys(name for trial in done for name in trial.changes)
    first = [name for name in dict.fromkeys((file.request.minimize, limit, DOMAIN, GENERAL)) if name in found]
    return [*first, *(name for name in found if name not in first)]


def _configuration(number: int, trials: Sequence[Trial]) -> Configuration:
    own = [trial for trial in trials if trial.number == number]
    done = [trial for trial in own if trial.state == "done"]
    names = dict.fromkeys(name for trial in done for name in trial.changes)
    return Configuration(
        number=number,
        values=own[0].values,
        changes={
            name: interval(mean_over_seeds([t.changes[name] for t in done if name in t.changes]))
            for name in names
        },
        runs=[trial.run for trial in done],
        failed=[trial.run for trial in own if trial.state == "failed"],
        broken=sum(trial.exit_code in (3, 4) for trial in done),
        seconds=sum(trial.seconds for trial in own),
    )


def level_key(value: Any) -> Hashable:
    """Return a level as something to compare by: its JSON text, or the value of a number of a range."""
    return json.dumps(value, sort_keys=True)


def _observations(factors: Sequence[Factor], done: Sequence[Trial], measure: str) -> list[Observation]:
    return [
        Observation(
            {f.key: trial.values[f.key] if f.is_range else level_key(trial.values[f.key]) for f in factors},
            trial.seed,
            trial.changes[measure],
        )
        for trial in done
        if measure in trial.changes
    ]


def _levels(factors: Sequence[Factor], done: Sequence[Trial]) -> dict[str, list[Hashable]]:
    """Return the tried levels of each factor that has levels, in the order of the request."""
    tried = {f.key: {level_key(trial.values[f.key]) for trial in done} for f in factors if not f.is_range}
    return {
        f.key: [level_key(level) for level in f.levels if level_key(level) in tried[f.key]]
        for f in factors
        if not f.is_range
    }


def _effects(
    factors: Sequence[Factor], done: Sequence[Trial], measures: Sequence[str]
) -> list[FactorEffects]:
    levels = _levels(factors, done)
    ranges = {factor.key: factor.log for factor in factors if factor.is_range}
    by_measure = {
        measure: main_effects(_observations(factors, done, measure), levels, ranges) for measure in measures
    }
    found = []
    for factor in factors:
        changes: dict[Any, dict[str, Interval]] = {}
        for measure, effects in by_measure.items():
            for effect in effects.get(factor.key, ()):
                found_change = interval(effect.change)
                if effect.level is None and not factor.log:
                    found_change = _scaled(found_change, factor)
                changes.setdefault(effect.level, {})[measure] = found_change
        if changes:
            slope = "doubled" if factor.log else f"from {factor.low} to {factor.high}"
            found.append(
                FactorEffects(
                    key=factor.key,
                    reference=None if factor.is_range else json.loads(str(levels[factor.key][0])),
                    unit=slope if factor.is_range else "",
                    levels=[
                        LevelEffect(level=None if level is None else json.loads(str(level)), changes=each)
                        for level, each in changes.items()
                    ],
                )
            )
    return found


def _scaled(slope: Interval, factor: Factor) -> Interval:
    """Return the change over the whole range of a factor."""
    span = (factor.high or 0.0) - (factor.low or 0.0)
    bounds = [None if bound is None else span * bound for bound in (slope.low, slope.high)]
    return Interval(value=span * slope.value, low=bounds[0], high=bounds[1])


def _interactions(
    factors: Sequence[Factor], done: Sequence[Trial], measures: Sequence[str]
) -> list[InteractionFact]:
    levels = _levels(factors, done)
    found = []
    for measure in measures:
        observations = _observations(factors, done, measure)
        for a, b in combinations(levels, 2):
            between = interaction(observations, a, b, levels)
            if between is None:
                continue
            cells = cell_means(observations, a, b)
            found.append(
                InteractionFact(
                    a=a,
                    b=b,
                    measure=measure,
                    size=between.size,
                    beyond_noise=between.beyond_noise,
                    cells=[
                        (json.loads(str(x)), json.loads(str(y)), cells[x, y].value)
                        for x in levels[a]
                        for y in levels[b]
                        if (x, y) in cells
                    ],
                )
            )
    return found


def _choice(file: SweepFile, done: Sequence[Trial]) -> Choice | None:
    """Return the best configuration; None if no run has measured what is minimised."""
    request, limit = file.request, file.request.limit
    objective = _by_configuration(done, request.minimize)
    if not objective:
        return None
    limited = _by_configuration(done, limit.probe) if limit else None
    return choose(objective, limited, limit.allowed if limit else 0.0)


def _difference(choice: Choice | None, number: int, measure: str) -> Interval | None:
    """Return the difference of a configuration from the best one, in the measure's own direction."""
    if choice is None or (lead := choice.leads.get(number)) is None:
        return None
    if not more_is_better(measure):
        return interval(lead)
    low, high = (None if bound is None else -bound for bound in (lead.high, lead.low))
    return Interval(value=-lead.value, low=low, high=high)


def _recommendation(choice: Choice, file: SweepFile, rows: Sequence[Configuration]) -> Recommendation:
    values = next(row.values for row in rows if row.number == choice.number)
    return Recommendation(
        number=choice.number,
        overrides=file.request.settings(values),
        held=choice.held,
        sentences=sentences(choice, file, rows),
    )


def _by_configuration(done: Sequence[Trial], measure: str) -> dict[int, dict[int, float]]:
    """Return configuration -> seed -> change, less being better."""
    sign = -1.0 if more_is_better(measure) else 1.0
    found: dict[int, dict[int, float]] = {}
    for trial in done:
        if measure in trial.changes:
            found.setdefault(trial.number, {})[trial.seed] = sign * trial.changes[measure]
    return found
