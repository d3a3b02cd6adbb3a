"""The probe share: which readings are made during training, and on what share of a sample.

Work is counted in training tokens: a token in a forward and a backward pass costs 1. A token that a probe
reads costs a third. The readings therefore follow from the recipe and from sizes alone: they are the same on
every machine, under any load, and after a kill.

First and last readings are always made, in full. The rest of the share is divided evenly among the probes
until the cheap ones have all the readings that are due. A probe that cannot have every reading in full reads
smaller samples, and below a quarter of its sample it makes fewer readings. The dense beginning, where the
stability gap is, gets a larger share.

Probes on which a gate acts go first: the others share the rest, at least a quarter where they need it. A
gate with too few readings is blind, so its probe makes some in any case, spread over the run, even if that
exceeds the share. A gate is as blind on too few documents: its probe makes fewer readings rather than
smaller ones of less than thirty. Online mixing updates its weights at every reading of its probes: they are
all made, at least on a quarter of the sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpt.monitor.schedule import Moment, When

FORWARD = 1 / 3
"""Training tokens that a token of a forward pass alone costs: the backward pass takes about twice as long as
the forward pass. Assumed for every model and machine, so that the same recipe makes the same readings."""

WEIGHTS = 100.0
"""Training tokens that reading and comparing every weight costs, for a model of any size: both grow with it.
Measured on a CPU with 135M parameters: 0.4 to 0.6 s, against 130 to 250 training tokens a second."""

NEW_TOKENS = 25.0
"""Training tokens that the norms of all embeddings cost: 0.1 to 0.2 s, measured in the same way."""

SMALLEST = 0.25
"""Share of a sample below which a reading is left out. A sample that is not divisible is read in full."""

NEEDED = 12
"""Readings between first and last that a probe with an acting gate always makes, if enough are due."""

DOCUMENTS = 30
"""Documents (questions, samples) below which a reading for a gate is left out rather than made smaller. By
Student's t a rise must be 5.0 of its standard errors on 10 documents before a gate suspects it, 3.9 on 30."""

OTHERS = 0.25
"""Share of the probes' work after first and last readings that gated probes leave to the others."""

EARLY = 3.0
"""Weight of a reading in the dense beginning; a later one has weight 1."""


@dataclass(frozen=True)
class ProbeWork:
    """The work that probes may do.

    Attributes:
        share: Largest share of the training's work.
        other_work: Work of monitoring that is no reading, such as texts sampled before and after training.
    """

    share: float
    other_work: float = 0.0


@dataclass(frozen=True)
class Demand:
    """The readings that are due for a probe.

    Attributes:
        work: Training tokens that a reading of the whole sample costs.
        early, later: Numbers of readings between first and last, in the dense beginning and after it.
        divisible: True if a part of the sample can be read.
        gated: True if a gate acts on the probe, or online mixing.
        items: Number of documents (questions, samples) of the whole sample; None if it is not known.
        always: True if every reading that is due is made, at least on a part of the sample.
    """

    work: float
    early: int
    later: int
    divisible: bool = True
    gated: bool = False
    items: int | None = None
    always: bool = False

    @classmethod
    def of(
        cls,
        work: float,
        when: When,
        end: Moment,
        *,
        divisible: bool = True,
        gated: bool = False,
        items: int | None = None,
        always: bool = False,
    ) -> Demand:
        """Return the demand of a probe with a schedule, in a run that ends at a moment."""
        return cls(work, *when.between(end), divisible, gated or always, items, always)

    @property
    def between(self) -> int:
        """Return the number of readings between first and last."""
        return self.early + self.later

    @property
    def smallest(self) -> float:
        """Return the share of the sample below which a reading is left out."""
        if not self.divisible:
            return 1.0
        if self.always:
            return SMALLEST
        return max(SMALLEST, min(1.0, DOCUMENTS / self.items)) if self.gated and self.items else SMALLEST

    @property
    def needed(self) -> float:
        """Return the work of the readings between first and last that are always made."""
        share = SMALLEST if self.divisible else 1.0
        readings = self.between if self.always else min(NEEDED, self.between)
        return share * self.work * readings if self.gated else 0.0

    @property
    def least(self) -> float:
        """Return the work of all readings that are always made."""
        return 2 * self.work + self.needed

    def done(self, shares: Sequence[float]) -> float:
        """Return the work of the first and the last reading, and of others with these shares."""
        return self.work * (2 + sum(shares))


def planned_shares(
    probe_work: ProbeWork | None, tokens: int, demands: Mapping[str, Demand]
) -> dict[str, list[float]]:
    """Return the share of its sample that every reading between first and last is made on, by probe.

    A share of 0 is a reading that is left out.

    Args:
        probe_work: Work that probes may do; None to make every reading in full.
        tokens: Number of tokens that the run trains on.
        demands: Readings that are due, by probe.
    """
    if probe_work is None:
        return {name: [1.0] * each.between for name, each in demands.items()}
    first_and_last = 2 * sum(each.work for each in demands.values())
    left = probe_work.share * tokens - probe_work.other_work - first_and_last
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
    """Return the largest amount that a probe gets when the available work is divided evenly.

    A probe that needs less gets what it needs. The level is infinite if that holds for all probes.
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
    """Return the shares of the readings that an amount of work pays for."""
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
    """Divide a total in proportion to weights that fall, giving at most `most` to each."""
    amounts, weight = [], sum(weights)
    for each in weights:
        amounts.append(min(most, total * each / weight))
        total, weight = total - amounts[-1], weight - each
    return amounts


def _chosen(chances: Sequence[float]) -> Iterator[bool]:
    """Choose readings, evenly spread; their number is the rounded sum of the chances."""
    rounded = (int(total + 0.5) for total in accumulate(chances, initial=0.0))
    return (after > before for before, after in pairwise(rounded))
