"""The search itself: propose, merge in memory, measure, log.

Which point to try next: a pure function of the space, the goal, the seed and what was tried.
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
"""A point of a Sobol sequence, where the Bayesian step names one that tells nothing new."""

_FEWEST = 3
"""Points of a grid in one dimension."""

_FINE = 400
"""Steps of the line in which its best place is looked for."""


def propose(
    space: Space, goal: Goal, tried: Sequence[Trial], points: int, seed: int
) -> tuple[Values, str] | None:
    """The next point and what proposes it; None where a line search has arrived.

    Args:
        points: that will be tried in all; half of them, or more in one dimension, are a coarse grid.
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
    """A coarse grid with the bounds in it; where even that has too many corners, a Sobol sequence.

    Where there is room, a grid of corners alone begins with the middle, where merges mostly are better. A
    point without any model in it is left out.
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
    """The best place of the cubic splines through all figures; None where it has been tried.

    Where weight 0 is the base, the splines pass through it: no gain and no rise.
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
    """Gain, rise, and the upper bound of what each budget holds."""
    return (
        goal.gain_of(tried),
        goal.rise_of(tried),
        *(tried.changes[limit.name].upper for limit in goal.limits),
    )


def _best(figures: np.ndarray, goal: Goal) -> int:
    """The best of predicted figures [places, 2 + limits], as `choose` would choose it."""
    gain, rise = figures[:, 0], figures[:, 1]
    if not goal.limits:
        farthest = int(gain.argmax())
        if gain[farthest] <= 0 or rise[farthest] <= 0:
            return farthest
        return int((gain / gain[farthest] - np.maximum(rise, 0.0) / rise[farthest]).argmax())
    excess = (figures[:, 2:] - [limit.most for limit in goal.limits]).max(axis=1)
    return int(np.where(excess <= 0, gain, -np.inf).argmax() if (excess <= 0).any() else excess.argmin())


def _bayesian(space: Space, goal: Goal, tried: Sequence[Trial], seed: int) -> Values:
    """A step of Bayesian optimisation, as optuna's Gaussian processes take it.

    With budgets the gain's expected improvement where they probably hold (Gardner et al. 2014), else that of
    the hypervolume under the front of gain and rise (Daulton et al. 2020).
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
"""Raised where the same search measures otherwise, so that no log of older code is continued."""


class Evaluation(Protocol):
    """Measures models; it names the same measurements for every one, on the same items."""

    @property
    def key(self) -> Mapping[str, Any]:
        """What tells one evaluation from another, as JSON data: a log is continued only with the same."""

    def base(self) -> Readings:
        """What the base measures."""

    def merged(self, plan: Plan) -> Readings:
        """What a merge measures, which is made in memory."""

    def restore(self, data: Mapping[str, Any]) -> Any:
        """A measurement, of its JSON data."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        tried: every point, in the order in which they were tried.
        front: those that no other beats, by gain.
        arrived: whether it ended early because nothing better was to be expected.
    """

    space: Space
    goal: Goal
    tried: tuple[Trial, ...]
    front: tuple[Trial, ...]
    choice: Choice
    arrived: bool

    @property
    def chosen(self) -> Trial:
        """The point that is chosen."""
        return self.choice.tried

    @property
    def at_bounds(self) -> list[AtBound]:
        """The chosen numbers that are at a bound."""
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
        candidates: the parents, as `merging.plan.read_inputs` gives them.
        points: most merges to try.
        log: JSON lines; a search that finds its own log goes on from there, with the same points.
        on_point: called with every new point and the number of points so far.

    Raises:
        CannotMerge: a merge is not possible, or the log is of another search.
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
    """What makes a search what it is."""
    request = space.request
    return {
        "contract": CONTRACT,
        "method": request.method,
        "models": [
            {"name": parent.name, "fingerprint": parent.fingerprint, "parameters": dict(parent.parameters)}
            for parent in request.inputs
        ],
        "parameters": dict(request.parameters),
        "settings": {key: getattr(request, key) for key in ("tokenizer", "dtype", "compute_dtype", "seed")},
        "dimensions": [asdict(dimension) for dimension in space.dimensions],
        "goal": asdict(goal),
        "points": points,
        "seed": seed,
        "evaluation": dict(evaluation.key),
    }
