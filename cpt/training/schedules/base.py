"""Define every schedule: its settings, and from them named phases and rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt.training.schedules.phases import WARMUP, Phase

LAST_FALLS = ("anneal", "decay")
"""Phases that end a run whose earlier part can be trained on: later runs continue from before them."""

_FINE = 1 << 20
"""Number of steps by which a share of a run is found."""


class ScheduleConfig(BaseModel, ABC):
    """A learning-rate schedule: a pure function of progress, which is counted in steps or in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    unit: Literal["steps", "tokens"] = Field(default="steps", description="What progress is counted in.")

    @property
    @abstractmethod
    def highest(self) -> float:
        """Return the highest rate that the schedule can reach."""

    @property
    def warmup_share(self) -> float:
        """Return the share of a run that warms up."""
        return float(getattr(self, WARMUP, 0.0))

    @abstractmethod
    def phases(self, total: int) -> tuple[Phase, ...]:
        """Return the phases of a run of `total` steps or tokens (see `unit`), in order, without gaps."""

    def rate(self, done: int, total: int, size: int = 1) -> float:
        """Return the learning rate of the step after `done` of `total` steps; 0 for the first step.

        Args:
            done, total, size: steps; or tokens, if that is the schedule's unit: those before the step,
                those of the whole run, those of the step.
        """
        phases = self.phases(total)
        phase = next((phase for phase in phases if done <= phase.last), phases[-1])
        return phase.rate(done, size)

    def anneal_begins(self, total: int) -> int | None:
        """Return steps (or tokens) before the last fall, where a checkpoint lets a later run continue.

        None for schedules that fall all the way: nothing can continue them.
        """
        return next((phase.first for phase in self.phases(total) if phase.name in LAST_FALLS), None)

    def too_short(self, steps: int) -> str | None:
        """Return why a run of so few steps cannot follow this schedule, or None if it can."""
        lengths = {phase.name: phase.length for phase in self.phases(steps)}
        for name, share in self._falls().items():
            length = lengths.get(name, 0)
            if share and length < 2:
                return f"the {name} ({name}_share {share:g}) is {length} of {steps} steps: too few to fall in"
        return None

    def share_at(self, part: float) -> float | None:
        """Return the share of a run after which the rate has fallen to a part of its highest.

        None if it never falls so far. Rates rise in a warm-up alone, and fall or stay after it.
        """
        first = self.phases(_FINE)[0]
        begins = first.last + 1 if first.name == WARMUP else 0
        limit = part * self.rate(begins, _FINE) * (1 + 1e-9)
        found = bisect_left(range(begins, _FINE), True, key=lambda done: self.rate(done, _FINE) <= limit)
        return None if begins + found == _FINE else (begins + found) / _FINE

    def _falls(self) -> Mapping[str, float]:
        """Return phases that need two steps to get from their first rate to their last, with their shares."""
        return {}

    def for_run(self, batch: int, tokens: int) -> Self:  # noqa: ARG002
        """Return the schedule of a run with this number of sequences per step and of tokens."""
        return self


def require_order(**rates: float) -> None:
    """Raise unless rates are in order, from lowest to highest.

    Raises:
        ValueError: naming the first two that are not.
    """
    for (lower, low), (higher, high) in pairwise(rates.items()):
        if low > high:
            raise ValueError(f"{lower} {low:g} is above {higher} {high:g}")


def require_room(**shares: float) -> None:
    """Raise if shares of a run add up to more than the whole.

    Raises:
        ValueError: naming them.
    """
    if sum(shares.values()) > 1 + 1e-9:
        named = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        raise ValueError(f"{named} is more than the whole run")
