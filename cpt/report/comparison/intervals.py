"""Which of two figures is lower, given what is known of their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cpt.report.schema import Interval

WRITTEN = 0.0005
"""Half of the last decimal that a page writes, in bits per byte: a smaller difference is none."""


def difference(a: Interval, b: Interval) -> Interval:
    """b - a with its interval, recovered from the two intervals (MOVER: Zou and Donner 2008, Stat. Med. 27).

    The two figures count as independent. Figures of two runs that read the same documents are not: what is
    hard for one is hard for the other, so their difference is known better than this says.

    Returns:
        Without bounds where either figure has none.
    """
    value = b.value - a.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Interval(value=value)
    return Interval(
        value=value,
        low=value - math.hypot(b.value - b.low, a.high - a.value),
        high=value + math.hypot(b.high - b.value, a.value - a.low),
    )


def is_lower(a: Interval, b: Interval) -> bool:
    """Whether a is below b by more than the noise and by as much as is written."""
    between = difference(a, b)
    beyond_noise = between.low is None or between.low > 0.0
    return beyond_noise and between.value >= WRITTEN


def lowest(figures: Mapping[str, Interval]) -> list[str]:
    """Names of the figures that none is lower than, the lowest value first."""
    ordered = sorted(figures, key=lambda name: figures[name].value)
    return [name for name in ordered if not is_lower(figures[ordered[0]], figures[name])]
