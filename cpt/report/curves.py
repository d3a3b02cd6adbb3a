"""Curves made fit to draw: smoothed, and thinned to what a page can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from cpt.report.schema import CurvePoint

CURVE_POINTS = 1000
"""Longest curve that is kept; longer ones are thinned."""

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


def thinned(
    points: Sequence[T], *measures: Callable[[T], float | None], limit: int = CURVE_POINTS
) -> list[T]:
    """At most `limit` points in their order: both ends, and each stretch's extremes by every measure.

    The points between the ends fall into stretches of equal length. Of each stay those where a measure is
    least and greatest, so that no peak of the curve is lost. Values that are not finite count as gaps.

    Args:
        measures: what is drawn of a point; at least one.
        limit: at least 2 + 2 · measures.
    """
    if len(points) <= limit:
        return list(points)
    stretches = (limit - 2) // (2 * len(measures))
    bounds = np.linspace(1, len(points) - 1, stretches + 1).astype(int)
    kept = {0, len(points) - 1}
    for measure in measures:
        values = np.array([measure(point) for point in points], dtype=float)
        values[~np.isfinite(values)] = np.nan
        lowest, highest = np.nan_to_num(values, nan=np.inf), np.nan_to_num(values, nan=-np.inf)
        for first, end in pairwise(bounds):
            kept |= {int(first + lowest[first:end].argmin()), int(first + highest[first:end].argmax())}
    return [points[index] for index in sorted(kept)]


def change_points(points: Sequence[T], measure: Callable[[T], object]) -> list[T]:
    """The points of a piecewise constant curve where its value has just changed, and both ends."""
    values = [measure(point) for point in points]
    changed = [index for index, (a, b) in enumerate(pairwise(values), start=1) if a != b]
    return [points[index] for index in sorted({0, *changed, len(points) - 1})] if points else []


def changes(curve: Sequence[CurvePoint]) -> dict[int, float]:
    """A probe's change since its first reading, by step."""
    base = curve[0].value if curve else None
    found = {}
    for point in curve:
        level = None if base is None or point.value is None else point.value - base
        change = level if point.rise is None else point.rise
        if change is not None and math.isfinite(change):
            found[point.step] = change
    return found
