"""Curves made fit to draw: smoothed, and thinned to what a page can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

CURVE_POINTS = 1000
"""Longest curve that is kept; longer ones are thinned evenly."""

T = TypeVar("T")


def smoothed(values: Sequence[float | None], span: float) -> list[float | None]:
    """Exponential average with weight 2/(span+1), free of start-up bias; gaps and NaN are passed over."""
    weight = min(1.0, 2.0 / (span + 1.0))
    total = mass = 0.0
    averages: list[float | None] = []
    for value in values:
        if value is not None and math.isfinite(value):
            total += weight * (value - total)
            mass += weight * (1.0 - mass)
        averages.append(total / mass if mass else None)
    return averages


def thinned(points: Sequence[T], limit: int = CURVE_POINTS) -> list[T]:
    """At most `limit` points, evenly picked, first and last among them."""
    if len(points) <= limit:
        return list(points)
    return [points[round(i * (len(points) - 1) / (limit - 1))] for i in range(limit)]
