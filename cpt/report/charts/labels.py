"""Labels set beside what they name, where they hide neither the curves nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

GLYPH = 6.9
"""Mean width of a character of the page's fonts at the charts' size, in units, with some to spare."""

LINE = 14.0
"""Height of a line of text in units."""

OVER_LABEL, OFF_AXES = 1000.0, 100.0
"""Cost of a covered label, and of each unit of text outside the axes; a covered point of a curve costs 1."""


class Placement(NamedTuple):
    """Where a text lies relative to its point: alignment, and the offset of its baseline in units."""

    ha: str
    dx: float
    dy: float


AROUND = tuple(
    Placement(ha, dx, dy)
    for dy, dx in ((8.0, 0.0), (-18.0, 0.0), (-4.0, 11.0))
    for ha, dx in (("left", dx), ("right", -dx), *((("center", 0.0),) if dx == 0.0 else ()))
)
"""Above, below and beside a point, in the order of preference."""


class Labels:
    """Places texts one after the other; the most important ones come first."""

    def __init__(self, axes: Axes, curve: Sequence[tuple[float, float]]) -> None:
        """Args:
        curve: points (in data coordinates, limits being set) that should stay visible.
        """
        self._axes = axes
        self._taken: list[tuple[float, float, float, float]] = []
        self._points = self._dense(np.asarray(curve, dtype=float).reshape(-1, 2))

    def along(self, text: str, level: float, **style: Any) -> None:
        """Write the name of a horizontal line above or below it, as far left as there is room."""
        left = self._axes.get_xlim()[0]
        places = [Placement("left", dx, dy) for dx in range(5, 280, 40) for dy in (5.0, -15.0)]
        self.write(text, (left, level), places, **style)

    def write(
        self, text: str, at: tuple[float, float], placements: Sequence[Placement] = AROUND, **style: Any
    ) -> None:
        """Write a text beside a point, where it covers least."""
        x, y = self._axes.transData.transform(at)
        best = min(placements, key=lambda place: self._cost(self._box(text, x, y, place)))
        self._taken.append(self._box(text, x, y, best))
        offset: dict[str, Any] = {"xytext": (best.dx, best.dy), "textcoords": "offset points"}
        self._axes.annotate(text, at, ha=best.ha, **offset, **style)

    def _box(self, text: str, x: float, y: float, place: Placement) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of a text in units."""
        width = GLYPH * len(text)
        left = x + place.dx - {"left": 0.0, "center": width / 2, "right": width}[place.ha]
        return left, left + width, y + place.dy - 3, y + place.dy - 3 + LINE

    def _cost(self, box: tuple[float, float, float, float]) -> float:
        left, right, bottom, top = box
        x, y = self._points[:, 0], self._points[:, 1]
        covered = float(((x > left) & (x < right) & (y > bottom) & (y < top)).sum())
        labels = sum(
            left < other[1] and right > other[0] and bottom < other[3] and top > other[2]
            for other in self._taken
        )
        frame = self._axes.get_window_extent()
        off = max(0.0, frame.x0 - left) + max(0.0, right - frame.x1 - 8)
        off += max(0.0, frame.y0 - bottom) + max(0.0, top - frame.y1 - 20)
        return covered + OVER_LABEL * labels + OFF_AXES * off

    def _dense(self, points: np.ndarray) -> np.ndarray:
        """The curve in units with a point every few units: [points, 2]."""
        if len(points) < 2:
            return np.zeros((0, 2))
        corners = self._axes.transData.transform(points)
        lengths = np.hypot(*np.diff(corners, axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(lengths)])
        at = np.arange(0.0, along[-1] + 1.0, 4.0)
        return np.stack([np.interp(at, along, corners[:, axis]) for axis in (0, 1)], axis=1)
