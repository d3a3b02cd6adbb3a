"""Schedules of readings: densely at first, where the stability gap is, then at regular intervals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol


@dataclass(frozen=True)
class Moment:
    """A position in a training run: steps and tokens trained so far."""

    step: int
    tokens: int


class When(Protocol):
    """A schedule of readings. The reading at the end of training is always made, whatever the schedule."""

    def due(self, before: Moment, now: Moment) -> bool:
        """Return True if a reading is due after the step from `before` to `now`; both are 0 at the start."""

    def between(self, end: Moment) -> tuple[int, int]:
        """Count the readings between the start and the end: in the dense beginning, and after it."""


@dataclass(frozen=True)
class Regular:
    """Readings after 0, 1, 2, 4, 8, … steps, and from `every` steps (or tokens) on at regular intervals.

    Attributes:
        every: Interval in `unit`.
    """

    every: int
    unit: str = "steps"

    def due(self, before: Moment, now: Moment) -> bool:
        if now.step == 0:
            return True
        if self._intervals(now) == 0:
            return now.step & (now.step - 1) == 0
        return self._intervals(now) > self._intervals(before)

    def between(self, end: Moment) -> tuple[int, int]:
        per_step = 1.0 if self.unit == "steps" or not end.step else end.tokens / end.step
        powers = (2**exponent for exponent in range(end.step.bit_length()))
        dense = takewhile(lambda step: step < end.step and step * per_step < self.every, powers)
        return sum(1 for _ in dense), max(0, (self._of(end) - 1) // self.every)

    def _intervals(self, moment: Moment) -> int:
        return self._of(moment) // self.every

    def _of(self, moment: Moment) -> int:
        return moment.step if self.unit == "steps" else moment.tokens


@dataclass(frozen=True)
class Every:
    """Readings at the start and after every so many steps, without a dense beginning."""

    steps: int

    def due(self, before: Moment, now: Moment) -> bool:  # noqa: ARG002
        return now.step % self.steps == 0

    def between(self, end: Moment) -> tuple[int, int]:
        return 0, max(0, (end.step - 1) // self.steps)


@dataclass(frozen=True)
class AtSteps:
    """Readings after given steps."""

    steps: Collection[int]

    def due(self, before: Moment, now: Moment) -> bool:  # noqa: ARG002
        return now.step in self.steps

    def between(self, end: Moment) -> tuple[int, int]:
        return 0, sum(0 < step < end.step for step in self.steps)
