"""Search: propose a point, merge in memory, measure, log.

The next point is a pure function of the space, the goal, the seed and the earlier trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cpt.errors import CannotMerge
from merging.candidates import Candidate
from merging.plan import Plan, plan
from merging.search.space import NEAR, AtBound, Space, Values
from merging.search.trials import Choice, Goal, Log, Readings, Trial, changes_since, choose, pareto_front

GRID, LINE, BAYESIAN = "grid", "line search", "bayesian"
SPREAD = "spread"
"""Origin of a point of a Sobol sequence, where the Bayesian step proposes nothing new."""

_FEWEST = 3
"""Smallest number of points of a grid in one dimension."""

_FINE = 400
"""Steps of the line among which the best place is searched."""


def propose(
    space: Space, goal: Goal, tried: Sequence[Trial], points: int, seed: int
) -> tuple[Values, str] | None:
    """Return the next point and the method that proposes it; None where a line search has converged.

    Args:
        space: Search space.
        goal: Goal of the search.
        tried: Trials so far.
        points: Number of trials in all; half of them, or more in one dimension, are a coarse grid.
        seed: Seed of the Bayesian step.
    """
    seen = {each.values for each in tried}
    if all(each.by == GRID for each in tried):
        for values in grid(space, points):
            if values not in seen:
                return values, GRID
    if len(space.dimensions) == 1:
        place = next_on_line(space, goal, tried)
        return None if place is None else ((place,), LINE)
    values = _bayesian(space, goal, tried, seed)
    if values in seen or space.is_nothing(values):
        return next(each for each in _sobol(space, len(tried) + 1) if each not in seen), SPREAD
    return values, BAYESIAN


def grid(space: Space, points: int) -> list[Values]:
    """Return a coarse grid that includes the bounds; a Sobol sequence where the grid has too many corners.

    Where there is room, a grid of corners alone begins with the middle, where merges are mostly better. A
    point where all models have weight 0 is left out.
    """
    dimensions = space.dimensions
    room = min(points, max(_FEWEST, points // 2))
    levels = int(
        np.floor((room + space.is_nothing([dim.low for dim in dimensions])) ** (1 / len(dimensions)) + 1e-9)
    )
    if levels >= 2:
        axes = [np.linspace(dim.low, dim.high, levels).tolist() for dim in dimensions]
        corners = [values for values in product(*axes) if not space.is_nothing(values)]
        if levels == 2 and len(corners) < room and not space.is_nothing(space.centre):
            corners.insert(0, space.centre)
        return corners[:room]
    return _sobol(space, room)


def _sobol(space: Space, count: int) -> list[Values]:
    from scipy.stats import qmc

    unit = qmc.Sobol(len(space.dimensions), scramble=False).random(2 ** int(np.ceil(np.log2(count + 1))))
    low, high = (np.array([getattr(dim, end) for dim in space.dimensions]) for end in ("low", "high"))
    return [tuple(point) for point in (low + unit[1 : count + 1] * (high - low)).tolist()]


def next_on_line(space: Space, goal: Goal, tried: Sequence[Trial]) -> float | None:
    """Return the best place on the cubic splines through all figures; None if it was tried.

    Where weight 0 is the base, the splines pass through no gain and no rise there.
    """
    from scipy.interpolate import CubicSpline

    dim = space.dimensions[0]
    rows = sorted((each.values[0], *_figures(each, goal)) for each in tried)
    if space.from_base and rows[0][0] > 0:
        rows.insert(0, (0.0, *(0.0 for _ in rows[0][1:])))
    table = np.array(rows)
    if len(table) < 2:
        return (dim.low + dim.high) / 2
    line = np.linspace(dim.low, dim.high, _FINE + 1)
    places = line[int(space.is_nothing((dim.low,))) :]
    figures = CubicSpline(table[:, 0], table[:, 1:], bc_type="not-a-knot")(places)
    best = float(places[_best(figures, goal)])
    near = np.abs(table[:, 0] - best).min() < NEAR * (dim.high - dim.low)
    return None if near else best


def _figures(tried: Trial, goal: Goal) -> tuple[float, ...]:
    """Return gain, rise, and the upper bound for each limit."""
    return (
        goal.gain_of(tried),
        goal.rise_of(tried),
        *(tried.changes[limit.name].upper for limit in goal.limits),
    )


def _best(figures: np.ndarray, goal: Goal) -> int:
    """Return the best of predicted figures [places, 2 + limits], by the rule of `choose`."""
    gain, rise = figures[:, 0], figures[:, 1]
    if not goal.limits:
        farthest = int(gain.argmax())
        if gain[farthest] <= 0 or rise[farthest] <= 0:
            return farthest
        return int((gain / gain[farthest] - np.maximum(rise, 0.0) / rise[farthest]).argmax())
    excess = (figures[:, 2:] - [limit.most for limit in goal.limits]).max(axis=1)
    return int(np.where(excess <= 0, gain, -np.inf).argmax() if (excess <= 0).any() else excess.argmin())


def _bayesian(space: Space, goal: Goal, tried: Sequence[Trial], seed: int) -> Values:
    """Take a step of Bayesian optimisation by optuna's Gaussian processes.

    With limits it maximises the expected improvement of the gain where they probably hold (Gardner et al.
    2014), else that of the hypervolume under the front of gain and rise (Daulton et al. 2020).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [str(number) for number in range(len(space.dimensions))]
    room: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(dim.low, dim.high)
        for name, dim in zip(names, space.dimensions, strict=True)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(seed=seed + len(tried), n_startup_trials=0)
        maximise, minimise = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [maximise] if goal.limits else [maximise, minimise]
        study = optuna.create_study(directions=directions, sampler=sampler)
        rows = [(each.values, _figures(each, goal)) for each in tried]
        if space.from_base:
            rows.append((tuple(dim.low for dim in space.dimensions), (0.0,) * (2 + len(goal.limits))))
        for values, (gain, rise, *uppers) in rows:
            study.enqueue_trial(dict(zip(names, values, strict=True)))
            trial = study.ask(room)
            for limit, upper in zip(goal.limits, uppers, strict=True):
                trial.set_constraint(limit.name, upper - limit.most)
            study.tell(trial, [gain, rise][: len(directions)])
        params = study.ask(room).params
    return tuple(float(params[name]) for name in names)


CONTRACT = 2
"""Version of the measurements: a log of another version is not continued."""


class Evaluation(Protocol):
    """An evaluation of models: the same measurements for every model, on the same items."""

    @property
    def key(self) -> Mapping[str, Any]:
        """Identity of the evaluation as JSON data: a log is continued only with the same."""

    def base(self) -> Readings:
        """Measure the base."""

    def merged(self, plan: Plan) -> Readings:
        """Measure a merge that is made in memory."""

    def restore(self, data: Mapping[str, Any]) -> Any:
        """Return a measurement from its JSON data."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        space: Search space.
        goal: Goal of the search.
        trials: Every trial, in order.
        front: Trials on the Pareto front, by gain.
        choice: Chosen trial.
        arrived: True if the search ended early because it expected nothing better.
    """

    space: Space
    goal: Goal
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    choice: Choice
    arrived: bool

    @property
    def chosen(self) -> Trial:
        """The chosen trial."""
        return self.choice.trial

    @property
    def at_bounds(self) -> list[AtBound]:
        """Chosen values that are at a bound."""
        return self.space.at_bounds(self.chosen.values)


def search(
    space: Space,
    candidates: Sequence[Candidate],
    goal: Goal,
    evaluation: Evaluation,
    *,
    points: int,
    seed: int,
    log: Path,
    on_point: Callable[[Trial, int], None] | None = None,
) -> SearchResult:
    """Try merges and choose one.

    Args:
        space: Search space.
        candidates: Inputs of the merge, as `merging.plan.read_inputs` returns them.
        goal: Goal of the search.
        evaluation: Measures merges.
        points: Largest number of merges to try.
        seed: Seed of the proposals.
        log: File of JSON lines; a search that finds its own log continues from there, with the same points.
        on_point: Called with every new trial and the number of trials so far.

    Raises:
        CannotMerge: A merge is not possible, or the log is of another search.
    """
    if points < 1:
        raise CannotMerge(["a search tries at least one point"])
    kept = Log(log, _key(space, goal, evaluation, points, seed), evaluation.restore)
    base, tried = kept.read()
    if base is None:
        base = evaluation.base()
        kept.begin(base)
    arrived = False
    while len(tried) < points:
        proposed = propose(space, goal, tried, points, seed)
        if proposed is None:
            arrived = True
            break
        values, by = proposed
        readings = evaluation.merged(plan(space.request_at(values), candidates))
        tried.append(Trial(values, by, changes_since(base, readings), readings))
        kept.add(tried[-1])
        if on_point is not None:
            on_point(tried[-1], len(tried))
    return SearchResult(
        space, goal, tuple(tried), tuple(pareto_front(tried, goal)), choose(tried, goal), arrived
    )


def _key(space: Space, goal: Goal, evaluation: Evaluation, points: int, seed: int) -> dict[str, Any]:
    """Return the identity of a search."""
    request = space.request
    return {
        "contract": CONTRACT,
        "method": request.method,
        "models": [
            {"name": model.name, "fingerprint": model.fingerprint, "parameters": dict(model.parameters)}
            for model in request.inputs
        ],
        "parameters": dict(request.parameters),
        "settings": {key: getattr(request, key) for key in ("tokenizer", "dtype", "compute_dtype", "seed")},
        "dimensions": [asdict(dimension) for dimension in space.dimensions],
        "goal": asdict(goal),
        "points": points,
        "seed": seed,
        "evaluation": dict(evaluation.key),
    }
