"""How much of the training's time probes may take: what to read now, and how much of it.

The time that the rest of the run can spend on probes is shared out evenly among them until the cheap ones
have all that they want. A probe that cannot have every reading in full has smaller samples, and below a
quarter of its sample fewer readings: the share that a reading was not given is saved up for the next. In
the dense beginning, where the stability gap is, readings are given more.

Probes on which a gate acts go first: the others share what those leave, a quarter of all where it is not
needed. Too few readings would leave the gate blind, so some are made at a quarter of the sample in any case,
spread over the run, even if the budget is then exceeded. So are first and last readings, in full; where a
gate ends a run early, what was not read of its result is read then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

SMALLEST = 0.25
"""Share of a sample below which a reading is left out; what is not divisible is read in full or not."""

NEEDED = 12
"""Readings between first and last that a gate which acts is given in any case, where as many are due."""

OTHERS = 0.25
"""Of what can be spent, the share that gated probes leave to the others, where those want as much."""

EARLY = 3.0
"""How much more of what can be had a reading in the dense beginning is given."""

_PLANNED, _CERTAIN = 0.95, 0.5
"""Of the time that the steps to come seem to take: what is planned with, and what is relied upon."""

_MARGIN = 1.25
"""How much longer than expected readings may take."""

_FORGETTING = 0.1
"""How fast the longest time that a reading has taken is forgotten."""


@dataclass(frozen=True)
class Allowance:
    """What probes may take of a run's time.

    Attributes:
        share: of the seconds of its steps.
        spent: seconds that were spent before the first reading; `owed`: that will be after the last.
    """

    share: float
    spent: float = 0.0
    owed: float = 0.0


@dataclass(frozen=True)
class Clock:
    """The time of a run.

    Attributes:
        training: seconds that its steps have taken.
        pace: seconds of a step; `left`: steps to come; `done`: steps that are behind.
        probing: seconds that probes have taken.
    """

    training: float
    pace: float
    left: int
    probing: float
    done: int = 0

    @property
    def progress(self) -> float:
        """Share of the steps that is done."""
        return self.done / max(1, self.done + self.left)


@dataclass(frozen=True)
class Outlook:
    """A probe, as far as the budget is concerned.

    Attributes:
        cost: seconds of a reading in full.
        left: readings to come after now, but for the last.
        due: whether a reading is due now.
        early: whether the run is in this probe's dense beginning.
        divisible: whether a part of its sample can be read.
        saved: share of a reading that was not given before.
        gated: whether a gate acts on it; `read`: readings that were made since the first.
    """

    cost: float
    left: int
    due: bool = True
    early: bool = False
    divisible: bool = True
    saved: float = 0.0
    gated: bool = False
    read: int = 0

    @property
    def smallest(self) -> float:
        """The share of its sample below which it is not read."""
        return SMALLEST if self.divisible else 1.0

    @property
    def reserved(self) -> float:
        """Seconds of the readings to come that are made in any case."""
        needed = min(self.left, max(0, NEEDED - self.read - self.due)) if self.gated else 0
        return self.smallest * self.cost * needed

    def is_needed(self, progress: float) -> bool:
        """Whether a reading now is made in any case: there were fewer than the progress asks for, or all that
        are still due are needed."""
        missing = NEEDED - self.read
        return self.gated and self.due and (self.read < NEEDED * progress or self.left < missing)


@dataclass(frozen=True)
class Allotment:
    """What a probe that is due is given.

    Attributes:
        share: of its sample to read now; 0: the reading is left out.
        saved: share of a reading that is kept for the next.
    """

    share: float
    saved: float


def allot(budget: float, clock: Clock, probes: Mapping[str, Outlook]) -> dict[str, Allotment]:
    """What to read now, so that a run stays within its budget: for a moment between first and last readings.

    Args:
        budget: share of the steps' seconds that probes may take.
        probes: all of them by name; those that are due get an allotment.
    """
    last = _MARGIN * sum(probe.cost for probe in probes.values())

    def free(relied: float) -> float:
        return budget * (clock.training + relied * clock.pace * clock.left) - clock.probing - last

    planned = free(_PLANNED)
    at_once = free(_CERTAIN) - _MARGIN * sum(probe.reserved for probe in probes.values())
    allotted: dict[str, Allotment] = {}
    wishes = {name: each.cost * (each.left + each.due) for name, each in probes.items()}
    kept = min(OTHERS * planned, sum(wish for name, wish in wishes.items() if not probes[name].gated))
    for gated in (True, False):
        group = {name: probe for name, probe in probes.items() if probe.gated == gated}
        wanted = {name: wishes[name] for name in group}
        level = water_level(wanted, planned - kept if gated else planned)
        planned -= sum(max(min(amount, level), group[name].reserved) for name, amount in wanted.items())
        for name in sorted((name for name in group if group[name].due), key=lambda name: group[name].cost):
            granted = min(1.0, level / wanted[name]) if wanted[name] > 0 else 1.0
            given = _given(group[name], granted, at_once, clock.progress)
            at_once -= _MARGIN * given.share * group[name].cost
            allotted[name] = given
    return allotted


def _given(probe: Outlook, granted: float, at_once: float, progress: float) -> Allotment:
    """What a probe that is due is given of the share that is granted to each of its readings.

    Args:
        at_once: seconds that can be spent now.
    """
    saved = min(1.0, probe.saved + min(1.0, granted * (EARLY if probe.early else 1.0)))
    share = saved if probe.cost <= 0 else min(saved, max(0.0, at_once) / (_MARGIN * probe.cost))
    if share < probe.smallest - 1e-9:
        share = probe.smallest if probe.is_needed(progress) else 0.0
    return Allotment(share, max(0.0, saved - share))


def least_share(
    trained: float, read: Mapping[str, float], due: Mapping[str, int], gated: Collection[str]
) -> float:
    """Share of the steps' time that readings take which are made in any case, as far as tokens tell.

    A token that is read goes forward through the model; one that is trained on also goes backward, which
    takes about twice as long.

    Args:
        trained: tokens of the run.
        read: tokens of each probe that reads text.
        due: readings of each between the first and the last.
        gated: probes on which gates act.
    """
    needed = {name: SMALLEST * min(NEEDED, due[name]) if name in gated else 0.0 for name in read}
    return sum(tokens * (2 + needed[name]) for name, tokens in read.items()) / (3 * trained)


def expected_cost(before: float | None, seconds: float, share: float) -> float:
    """Seconds that a reading in full is expected to take, from what was expected and what one has taken."""
    now = seconds / share
    return now if before is None else max(now, before + _FORGETTING * (now - before))


def water_level(wanted: Mapping[str, float], available: float) -> float:
    """The largest amount of which nobody gets more, when what is available is shared out evenly.

    Those who want less than it get what they want; infinite when everybody does.
    """
    left = max(0.0, available)
    amounts = sorted(wanted.values())
    for index, amount in enumerate(amounts):
        even = left / (len(amounts) - index)
        if amount > even:
            return even
        left -= amount
    return float("inf")
