"""Smooth curves, and thin them to a number of points that a page can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from cpt.report.schema import CurvePoint

CURVE_POINTS = 1000
"""Maximum length of a curve in the facts; longer curves are thinned."""

T = TypeVar("T")


def smoothed(values: Sequence[float | None], span: float) -> list[float | None]:
    """Return the exponential average with weight 2/(span+1), corrected for start-up bias.

    Gaps and NaN are skipped.
    """
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
    """Return at most `limit` points in their order: both ends, and the extremes of each stretch.

    The points between the ends are divided into stretches of equal length. The points with the lowest and
    highest value of each measure in a stretch stay, so that no peak is lost. Non-finite values are gaps.

    Args:
        points: Points of a curve.
        measures: Functions that return a drawn value of a point; at least one.
        limit: Maximum number of points; at least 2 + 2 · number of measures.
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
    """Return the points of a piecewise constant curve after each change of its value, and both ends."""
    values = [measure(point) for point in points]
    changed = [index for index, (a, b) in enumerate(pairwise(values), start=1) if a != b]
    return [points[index] for index in sorted({0, *changed, len(points) - 1})] if points else []


def changes(curve: Sequence[CurvePoint]) -> dict[int, float]:
    """Return the change of a probe since its first reading, by step; the paired change if it is known."""
    base = curve[0].value if curve else None
    found = {}
    for point in curve:
        level = None if base is None or point.value is None else point.value - base
        change = level if point.rise is None else point.rise
        if change is not None and math.isfinite(change):
            found[point.step] = change
    return found
