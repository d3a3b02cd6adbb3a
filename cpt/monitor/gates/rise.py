"""Compute the rise of a reading over the first one: its bounds, its wording, its forecast.

The forecast is a straight line through the latest readings (least squares). Forgetting slows down later in a
run, so the line is trusted no further ahead than the run is old.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Self

from cpt.monitor.noise import bound, critical, known
from cpt.monitor.reading import HIGHER_IS_BETTER, Kind, Reading
from cpt.monitor.stability import Point

_EXACT: frozenset[Kind] = frozenset({"weights", "new-tokens"})
"""Kinds of probes that read everything: their figures have no sampling error."""

_ITEMS: Mapping[Kind, str] = {
    "text": "document",
    "task": "question",
    "drift": "sample",
    "early-end": "document",
}
"""Names of the items that a probe of each kind reads."""


@dataclass(frozen=True)
class Rise:
    """Deterioration of a reading since the first one.

    Attributes:
        worse: Deterioration in the probe's unit, or in shares of right answers.
        error: Standard error of `worse`: 0 if the figure is exact, infinite if it is unknown.
        items: Number of items that the error is estimated from; None if it is not estimated.
    """

    worse: float
    error: float
    items: int | None

    @classmethod
    def of(cls, reading: Reading) -> Self:
        worse = Point.of(reading).worse
        if reading.kind in _EXACT:
            return cls(worse, 0.0, None)
        if math.isnan(reading.rise_error):
            return cls(worse, math.inf, None)
        return cls(worse, reading.rise_error, reading.items)

    @property
    def upper(self) -> float:
        """Return the one-sided upper bound at 95%."""
        return self.worse + bound(self.items) * self.error

    @property
    def lower(self) -> float:
        """Return the one-sided lower bound at 95%."""
        return self.worse - bound(self.items) * self.error

    def least(self, looks: int) -> float:
        """Return the lower bound over many interim looks."""
        return self.worse - critical(looks, self.items) * self.error


def possible(reading: Reading, rise: Rise) -> str:
    """Return why a reading does not show that a limit is held."""
    if math.isinf(rise.error):
        return unknown(reading)
    verb = "fall" if reading.unit in HIGHER_IS_BETTER else "rise"
    on = f", on {counted(reading)}" if reading.items else ""
    return f"a {verb} of {amount(rise.upper, reading)} is possible{on}"


def unknown(reading: Reading) -> str:
    """Return that the noise of a reading is unknown, in words."""
    return f"its noise is not known, on {counted(reading)}"


def counted(reading: Reading) -> str:
    """Return the number of a reading's items in words: "8 documents"."""
    word, count = _ITEMS.get(reading.kind, "item"), reading.items
    return f"one {word}" if count in (None, 1) else f"{count} {word}s"


def of_what_is_allowed(reading: Reading, worse: float, limit: float) -> str:
    """Return how a reading compares with its limit, in words."""
    if worse >= 0:
        return f"{change(reading)} of {amount(limit, reading)} allowed"
    direction = "fall" if reading.rise > 0 else "rise"
    allowed = f"a {direction} of {amount(limit, reading)}" if limit else f"no {direction}"
    return f"{change(reading)}, where {allowed} is allowed"


def change(reading: Reading) -> str:
    """Return the change of a probe since the start, in words."""
    verb = "rose" if reading.rise >= 0 else "fell"
    return f"{reading.probe} {verb} by {amount(abs(reading.rise), reading, reading.rise_error)}"


def amount(value: float, reading: Reading, error: float = math.nan) -> str:
    """Return a number for people, with its 95% interval if an error is given; those of tasks in points."""
    scale = 100 if reading.unit in HIGHER_IS_BETTER else 1
    interval = "" if math.isnan(error) else f" ± {2 * error * scale:.2g}"
    text = f"{value * scale:.3g}{interval}"
    if reading.unit not in HIGHER_IS_BETTER:
        return text
    return f"{text} point" if text == "1" else f"{text} points"


_LATEST = 3
"""Readings that the line is fitted to: few, so that it turns soon after a change of the training."""

_AHEAD = 2.0
"""Multiple of the progress so far up to which the line is trusted."""


@dataclass(frozen=True)
class Forecast:
    """Forecast of a probe's change at the end of the run, with its standard error; NaN if unknown."""

    worse: float
    error: float

    def is_below(self, limit: float, errors: float) -> bool:
        """Return True if the change is below a limit by more than `errors` standard errors, or unknown."""
        return not self.worse + errors * self.error >= limit


UNKNOWN = Forecast(math.nan, math.nan)


def forecast(progress: Sequence[float], worse: Sequence[float], errors: Sequence[float]) -> Forecast:
    """Extrapolate the line through the latest readings to the end of the run, or as far as it is trusted.

    Args:
        progress: Progress at each reading, increasing, 0 at the start of the run and 1 at its end.
        worse: Deterioration of the probe since the start, at each reading.
        errors: Standard errors of the deteriorations.
    """
    trained = [(p, w, known(e)) for p, w, e in zip(progress, worse, errors, strict=True) if p > 0]
    if len(trained) < _LATEST:
        return UNKNOWN
    at, values, errors = zip(*trained[-_LATEST:], strict=True)
    middle = sum(at) / len(at)
    spread = sum((share - middle) ** 2 for share in at)
    ahead = min(1.0, _AHEAD * at[-1]) - middle
    weights = [1 / len(at) + ahead * (share - middle) / spread for share in at]  # weight of each reading
    return Forecast(sum(map(mul, weights, values)), math.hypot(*map(mul, weights, errors)))
