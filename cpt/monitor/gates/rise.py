"""Compute how much worse a reading is than the first one, with its bounds, and describe it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cpt.monitor.noise import bound, critical
from cpt.monitor.reading import HIGHER_IS_BETTER, Kind, Reading
from cpt.monitor.stability import Point

_EXACT: frozenset[Kind] = frozenset({"weights", "new-tokens"})
"""Kinds of probes that read all there is: their figures have no sampling error."""

_ITEMS: Mapping[Kind, str] = {
    "text": "document",
    "task": "question",
    "drift": "sample",
    "early-end": "document",
}
"""Names of the items that a probe of each kind reads."""


@dataclass(frozen=True)
class Rise:
    """Hold how much worse a reading is than the first one.

    Attributes:
        worse: in the probe's unit, or in shares of right answers.
        error: standard error of `worse`: 0 where the figure is exact, infinite where it is not known.
        items: that the error is estimated from; None where it is not estimated.
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
        """One-sided bound at 95%, from above."""
        return self.worse + bound(self.items) * self.error

    @property
    def lower(self) -> float:
        """One-sided bound at 95%, from below."""
        return self.worse - bound(self.items) * self.error

    def least(self, looks: int) -> float:
        """Return the bound from below that counts for so many looks."""
        return self.worse - critical(looks, self.items) * self.error


def possible(reading: Reading, rise: Rise) -> str:
    """Say why a reading does not show that a budget is held."""
    if math.isinf(rise.error):
        return unknown(reading)
    verb = "fall" if reading.unit in HIGHER_IS_BETTER else "rise"
    on = f", on {counted(reading)}" if reading.items else ""
    return f"a {verb} of {amount(rise.upper, reading)} is possible{on}"


def unknown(reading: Reading) -> str:
    """Say that nothing is known of a reading's noise."""
    return f"its noise is not known, on {counted(reading)}"


def counted(reading: Reading) -> str:
    """Return the number of a reading's items in words: "8 documents"."""
    word, count = _ITEMS.get(reading.kind, "item"), reading.items
    return f"one {word}" if count in (None, 1) else f"{count} {word}s"


def of_what_is_allowed(reading: Reading, worse: float, limit: float) -> str:
    """Say how a reading stands to what its budget allows."""
    if worse >= 0:
        return f"{change(reading)} of {amount(limit, reading)} allowed"
    direction = "fall" if reading.rise > 0 else "rise"
    allowed = f"a {direction} of {amount(limit, reading)}" if limit else f"no {direction}"
    return f"{change(reading)}, where {allowed} is allowed"


def change(reading: Reading) -> str:
    """Say by how much a probe has changed since the start."""
    verb = "rose" if reading.rise >= 0 else "fell"
    return f"{reading.probe} {verb} by {amount(abs(reading.rise), reading, reading.rise_error)}"


def amount(value: float, reading: Reading, error: float = math.nan) -> str:
    """A number as people read it, with its 95% interval if an error is given; accuracies in points."""
    scale = 100 if reading.unit == "accuracy" else 1
    interval = "" if math.isnan(error) else f" ± {2 * error * scale:.2g}"
    text = f"{value * scale:.3g}{interval}"
    if reading.unit != "accuracy":
        return text
    return f"{text} point" if text == "1" else f"{text} points"
