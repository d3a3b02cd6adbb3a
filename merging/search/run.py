"""The search itself: propose, merge in memory, measure, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from cpt.errors import CannotMerge
from merging.candidates import Candidate
from merging.plan import Plan, plan
from merging.search.front import Choice, Goal, choose, pareto_front
from merging.search.propose import propose
from merging.search.space import AtBound, Space
from merging.search.trials import Log, Readings, Trial, changes_since

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
    return SearchResult(space, goal, tuple(tried), tuple(pareto_front(tried, goal)), choose(tried, goal), arrived)


def _key(space: Space, goal: Goal, evaluation: Evaluation, points: int, seed: int) -> dict[str, Any]:
    """What makes a search what it is."""
    request = space.request
    return {
        "contract": CONTRACT,
        "method": request.method,
        "models": [
            {"name": parent.name, "fingerprint": parent.fingerprint, "parameters": dict(parent.parameters)}
            for parent in request.parents
        ],
        "parameters": dict(request.parameters),
        "settings": {key: getattr(request, key) for key in ("tokenizer", "dtype", "compute_dtype", "seed")},
        "dimensions": [asdict(dimension) for dimension in space.dimensions],
        "goal": asdict(goal),
        "points": points,
        "seed": seed,
        "evaluation": dict(evaluation.key),
    }
