"""The work that probes may do beside a training: which readings are made, and on what share of a sample.

Work is counted in training tokens, as what a token costs that goes forward and backward through the model. A
token that a probe sends forward costs a third of one. So the readings follow from the recipe and from sizes
alone: they are the same on every machine, however busy it is, and after a kill.

First and last readings are always made, in full. What the budget leaves is divided evenly among the probes
until the cheap ones have all that they want. A probe that cannot have every reading in full reads smaller
samples, and below a quarter of its sample it makes fewer readings. The dense beginning, where the stability
gap is, is given more.

Probes on which a gate acts go first: the others share the rest, at least a quarter where they need it. A
gate with too few readings is blind, so its probe makes some at a quarter of the sample in any case, spread
over the run, even if that exceeds the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpt.monitor.schedule import Moment, When

FORWARD = 1 / 3
"""Training tokens that a token costs which only goes forward: the backward pass takes about twice as long as
the forward pass. Assumed for every model and machine, so that the same recipe makes the same readings."""

WEIGHTS = 100.0
"""Training tokens that it costs to read and compare every weight, of a model of any size, as both grow with
it. Measured on a processor with 135M parameters: 0.4 to 0.6 s, beside 130 to 250 tokens a second."""

NEW_TOKENS = 25.0
"""Training tokens that the norms of all embeddings cost: 0.1 to 0.2 s, measured in the same way."""

SMALLEST = 0.25
"""Share of a sample below which a reading is left out. A sample that is not divisible is read in full."""

NEEDED = 12
"""Readings between first and last that a probe with an acting gate makes in any case, if as many are due."""

OTHERS = 0.25
"""Share of what is left after first and last readings that gated probes leave to the others."""

EARLY = 3.0
"""Weight of a reading in the dense beginning, beside 1 of a later one."""


@dataclass(frozen=True)
class ProbeBudget:
    """The work that probes may do.

    Attributes:
        share: largest part of the training's work.
        beside: work that is done in any case and is no reading, as texts sampled before and after.
    """

    share: float
    beside: float = 0.0


@dataclass(frozen=True)
class Demand:
    """The readings that a probe wants.

    Attributes:
        work: training tokens that a reading of the whole sample costs.
        early, later: number of readings between first and last, in the dense beginning and after it.
        divisible: whether a part of the sample can be read.
        gated: whether a gate acts on it.
    """

    work: float
    early: int
    later: int
    divisible: bool = True
    gated: bool = False

    @classmethod
    def of(
        cls, work: float, when: When, end: Moment, *, divisible: bool = True, gated: bool = False
    ) -> Demand:
        """Return the demand of a probe with a schedule, in a run that ends at a moment."""
        return cls(work, *when.between(end), divisible, gated)

    @property
    def between(self) -> int:
        """Number of readings between first and last."""
        return self.early + self.later

    @property
    def smallest(self) -> float:
        """Share of the sample below which it is not read."""
        return SMALLEST if self.divisible else 1.0

    @property
    def needed(self) -> float:
        """Work of the readings between first and last that are made in any case."""
        return self.smallest * self.work * min(NEEDED, self.between) if self.gated else 0.0

    @property
    def least(self) -> float:
        """Work of all readings that are made in any case."""
        return 2 * self.work + self.needed

    def done(self, shares: Sequence[float]) -> float:
        """Work of the first, the last and other readings of such shares."""
        return self.work * (2 + sum(shares))


def planned_shares(
    allowance: ProbeBudget | None, tokens: int, demands: Mapping[str, Demand]
) -> dict[str, list[float]]:
    """Return the share of its sample that every reading between first and last is made on, by probe.

    A share of 0 is a reading that is left out.

    Args:
        allowance: None: every reading is made in full.
        tokens: number of tokens that the run trains on.
    """
    if allowance is None:
        return {name: [1.0] * each.between for name, each in demands.items()}
    first_and_last = 2 * sum(each.work for each in demands.values())
    left = allowance.share * tokens - allowance.beside - first_and_last
    wishes = {name: each.work * each.between for name, each in demands.items()}
    kept = min(OTHERS * left, sum(wish for name, wish in wishes.items() if not demands[name].gated))
    shares: dict[str, list[float]] = {}
    for gated in (True, False):
        group = {name: wishes[name] for name, each in demands.items() if each.gated == gated}
        level = water_level(group, left - kept if gated else left)
        for name, wish in group.items():
            given = max(min(wish, level), demands[name].needed)
            left -= given
            shares[name] = _shares(demands[name], given)
    return {name: shares[name] for name in demands}


def water_level(wanted: Mapping[str, float], available: float) -> float:
    """Return the largest amount that anybody gets when what is available is divided evenly.

    Those who want less than it get what they want. It is infinite when everybody does.
    """
    left = max(0.0, available)
    amounts = sorted(wanted.values())
    for index, amount in enumerate(amounts):
        even = left / (len(amounts) - index)
        if amount > even:
            return even
        left -= amount
    return float("inf")


def _shares(probe: Demand, work: float) -> list[float]:
    """Return the shares of readings that together do some work."""
    weights = [EARLY] * probe.early + [1.0] * probe.later
    if work >= probe.work * probe.between:
        return [1.0] * probe.between
    total = work / probe.work
    count = min(probe.between, int(total / probe.smallest + 1e-9))
    if count < probe.between:
        made = _chosen(_divided(count, weights, 1.0))
        return [probe.smallest if each else 0.0 for each in made]
    rest = max(0.0, total - count * probe.smallest)
    return [probe.smallest + more for more in _divided(rest, weights, 1 - probe.smallest)]


def _divided(total: float, weights: Sequence[float], most: float) -> list[float]:
    """Divide a total in proportion to weights that fall, giving nobody more than `most`."""
    amounts, weight = [], sum(weights)
    for each in weights:
        amounts.append(min(most, total * each / weight))
        total, weight = total - amounts[-1], weight - each
    return amounts


def _chosen(chances: Sequence[float]) -> Iterator[bool]:
    """Choose as many as the chances add up to, evenly spread."""
    rounded = (int(total + 0.5) for total in accumulate(chances, initial=0.0))
    return (after > before for before, after in pairwise(rounded))
