"""When a probe is read: densely at first, where the stability gap is, then at regular intervals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol


@dataclass(frozen=True)
class Moment:
    """How far a training is."""

    step: int
    tokens: int


class When(Protocol):
    """A schedule of readings. The end of the training is always read, and is no concern of it."""

    def due(self, before: Moment, now: Moment) -> bool:
        """Whether a reading is due after the step that led from `before` to `now`; both 0 at the start."""

    def early(self, now: Moment) -> bool:
        """Whether the training is in its dense beginning."""

    def left(self, now: Moment, end: Moment) -> int:
        """How many readings are due after `now` and before `end`."""


@dataclass(frozen=True)
class Regular:
    """After 0, 1, 2, 4, 8, … steps, and once `every` steps (or tokens) are reached, after every so many.

    Attributes:
        every: distance in `unit`.
    """

    every: int
    unit: str = "steps"

    def due(self, before: Moment, now: Moment) -> bool:
        if now.step == 0:
            return True
        if self.early(now):
            return now.step & (now.step - 1) == 0
        return self._intervals(now) > self._intervals(before)

    def early(self, now: Moment) -> bool:
        return self._intervals(now) == 0

    def left(self, now: Moment, end: Moment) -> int:
        per_step = 1.0 if self.unit == "steps" or not end.step else end.tokens / end.step
        powers = (2**exponent for exponent in range(end.step.bit_length()))
        dense = takewhile(lambda step: step < end.step and step * per_step < self.every, powers)
        regular = (self._of(end) - 1) // self.every - self._intervals(now)
        return sum(step > now.step for step in dense) + max(0, regular)

    def _intervals(self, moment: Moment) -> int:
        return self._of(moment) // self.every

    def _of(self, moment: Moment) -> int:
        return moment.step if self.unit == "steps" else moment.tokens


@dataclass(frozen=True)
class AtSteps:
    """After given steps."""

    steps: Collection[int]

    def due(self, before: Moment, now: Moment) -> bool:  # noqa: ARG002
        return now.step in self.steps

    def early(self, now: Moment) -> bool:  # noqa: ARG002
        return False

    def left(self, now: Moment, end: Moment) -> int:
        return sum(now.step < step < end.step for step in self.steps)
