"""A search for merge weights, as `cpt.stages.merge.search.search_metrics` says it."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.base import Fact


class PairedChange(Fact):
    """How much worse than the base: bits per byte, or share of wrong answers; and its standard error."""

    change: float
    error: float | None = None


class Trial(Fact):
    """A merge that was tried; `values` by what was chosen, such as "weight of law"."""

    values: dict[str, float]
    by: str
    domain_gain: float
    general_rise: float
    changes: dict[str, PairedChange]
    front: bool
    chosen: bool


class SearchBudget(Fact):
    """A budget and how it stands at the chosen point; `limit` in the unit of its probe."""

    budget: str
    probe: str
    limit: float
    verdict: str
    why: str


class BoundReached(Fact):
    """A number that was chosen at the lower or upper bound of what was searched, and what that means."""

    name: str
    value: float
    bound: str
    says: str


class WeightSearch(Fact):
    """A search that is finished. `why` are the words for how the point was chosen."""

    method: str
    models: list[str]
    why: str
    holds: bool
    search_points: list[Trial]
    gates: list[SearchBudget] = []
    at_bounds: list[BoundReached] = []

    @property
    def chosen(self) -> Trial:
        """The point that is chosen."""
        return next(point for point in self.search_points if point.chosen)
