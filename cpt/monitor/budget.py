"""How much of the training's time probes may take: what to read now, and how much of it.

The time that the rest of the run can spend on probes is shared out evenly among them until the cheap ones
have all that they want. A probe that cannot have every reading in full has smaller samples, and below a
quarter of its sample fewer readings: the share that a reading was not given is saved up for the next. In
the dense beginning, where the stability gap is, readings are given more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST = 0.25
"""Share of a sample below which a reading is left out; what is not divisible is read in full or not."""

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
        pace: seconds of a step; `left`: steps to come.
        probing: seconds that probes have taken.
    """

    training: float
    pace: float
    left: int
    probing: float


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
    """

    cost: float
    left: int
    due: bool = True
    early: bool = False
    divisible: bool = True
    saved: float = 0.0


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

    wanted = {name: each.cost * (each.left + each.due) for name, each in probes.items()}
    level = water_level(wanted, free(_PLANNED))
    at_once = free(_CERTAIN)
    allotted: dict[str, Allotment] = {}
    due = [name for name in probes if probes[name].due]
    for name in sorted(due, key=lambda name: probes[name].cost):
        probe = probes[name]
        granted = min(1.0, level / wanted[name]) if wanted[name] > 0 else 1.0
        saved = min(1.0, probe.saved + min(1.0, granted * (EARLY if probe.early else 1.0)))
        share = saved if probe.cost <= 0 else min(saved, max(0.0, at_once) / (_MARGIN * probe.cost))
        share = share if share >= (SMALLEST if probe.divisible else 1.0 - 1e-9) else 0.0
        at_once -= _MARGIN * share * probe.cost
        allotted[name] = Allotment(share, saved - share)
    return allotted


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
