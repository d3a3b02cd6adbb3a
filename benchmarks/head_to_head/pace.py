"""Choose a number of optimizer steps so that a run ends after a given time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

TOLERANCE = 0.1
"""Largest share by which a run may miss its time before it is made once more."""

FEWEST = 2


class TooShort(Exception):
    """A time in which a contender cannot make even a few steps."""


class Pace(NamedTuple):
    """Seconds that a contender takes.

    Attributes:
        fixed: Seconds of everything but steps: start, reading, sampling, merging, writing.
        step: Seconds of a step.
    """

    fixed: float
    step: float

    @classmethod
    def of(cls, seconds: float, steps: Sequence[float]) -> Pace:
        """Return the pace of a run.

        The first step's extra time, in which memory is taken and kernels are chosen, is fixed.

        Args:
            seconds: Seconds of the whole run.
            steps: Seconds of each step.
        """
        step = fmean(steps[1:] or steps)
        return cls(seconds - step * len(steps), step)

    def steps(self, seconds: float) -> int:
        """Return the number of steps with which a run takes so many seconds.

        Raises:
            TooShort: There is no time for a few steps.
        """
        steps = round((seconds - self.fixed) / self.step)
        if steps < FEWEST:
            needed = self.fixed + FEWEST * self.step
            raise TooShort(f"{seconds:.0f} s are too few: {FEWEST} steps end after {needed:.0f} s")
        return steps


def off(seconds: float, wanted: float) -> float:
    """Return the share by which a run missed its time."""
    return seconds / wanted - 1
