"""Where a probe will be at the end of a run, if it goes on as it does.

A straight line is laid through the latest readings (least squares). Forgetting slows down later in a run, so
the line is believed no further ahead than the run is old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from cpt.monitor.noise import known

_LEAST = 3
"""Readings that a line is laid through at least."""

_BACK, _AHEAD = 0.5, 2.0
"""Multiples of the progress so far: how far back readings count, and how far ahead the line is believed."""


@dataclass(frozen=True)
class Forecast:
    """A probe's change at the end of the run, with its standard error; NaN when it cannot be told."""

    worse: float
    error: float

    def is_below(self, limit: float, errors: float) -> bool:
        """Whether it is below a limit by more than so many standard errors, or cannot be told."""
        return not self.worse + errors * self.error >= limit


UNKNOWN = Forecast(math.nan, math.nan)


def forecast(progress: Sequence[float], worse: Sequence[float], errors: Sequence[float]) -> Forecast:
    """The line through the latest readings, followed to the end of the run, or as far as it is believed.

    Args:
        progress: of each reading, increasing, 0 at the start of the run and 1 at its end.
        worse: change of the probe since the start, above 0 where it is worse.
        errors: standard errors of those changes.
    """
    trained = [(p, w, known(e)) for p, w, e in zip(progress, worse, errors, strict=True) if p > 0]
    if len(trained) < _LEAST:
        return UNKNOWN
    near = [reading for reading in trained if reading[0] >= _BACK * trained[-1][0]]
    recent = max(near, trained[-_LEAST:], key=len)
    at, values, errors = zip(*recent, strict=True)
    middle = sum(at) / len(at)
    spread = sum((share - middle) ** 2 for share in at)
    ahead = min(1.0, _AHEAD * at[-1]) - middle
    weights = [1 / len(at) + ahead * (share - middle) / spread for share in at]  # of each reading
    return Forecast(sum(map(mul, weights, values)), math.hypot(*map(mul, weights, errors)))
