"""Place labels beside their points so that they hide neither curves, markers nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from cpt.report.theme import STYLE, colour

LINE = 14.0
"""Height of a line of text in units."""

MARKER = 6.0
"""Radius of a marker in units, with a margin."""

OVER_LABEL, OVER_MARKER, OFF_AXES, LEADER = 1000.0, 50.0, 100.0, 15.0
"""Cost of a covered label, of a covered marker, of each unit of text outside the axes, and of a leader.

A covered point of a curve costs 1.
"""


class Placement(NamedTuple):
    """Position of a text relative to its point: alignment, and offset of its baseline in units.

    leader: True if a thin line connects the point and the text.
    """

    ha: str
    dx: float
    dy: float
    leader: bool = False


class Box(NamedTuple):
    """Area covered by a text, in units."""

    left: float
    right: float
    bottom: float
    top: float


BESIDE = tuple(
    Placement(ha, dx, dy)
    for dy, dx in ((8.0, 0.0), (-18.0, 0.0), (-4.0, 11.0))
    for ha, dx in (("left", dx), ("right", -dx), *((("center", 0.0),) if dx == 0.0 else ()))
)
"""Placements above, below and beside a point, in order of preference."""

AWAY = tuple(
    Placement(ha, side * dx, dy, leader=True)
    for far in (24.0, 40.0)
    for dy, dx in ((far, 0.0), (-far - 10.0, 0.0), (far, far), (-far - 10.0, far), (-4.0, far))
    for ha, side in (("left", 1.0), ("right", -1.0))
)
"""Placements farther from a point, the nearest first."""


class Labels:
    """Placer of texts in one chart; texts written first get the best places."""

    def __init__(
        self,
        axes: Axes,
        curve: Sequence[tuple[float, float]],
        markers: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Take the curve and the markers of a chart.

        Args:
            axes: Axes of the chart.
            curve: Corners of a line that should stay visible, in data coordinates.
            markers: Points that must stay visible; a text may belong to one of them.
        """
        # matplotlib would autoscale when it draws, and move the points that are measured here
        axes.autoscale_view()
        self._axes = axes
        self._taken: list[Box] = []
        self._curve = dense(self._in_units(curve))
        self._markers = self._in_units(markers)

    def along(self, text: str, level: float, **style: Any) -> None:
        """Write the name of a horizontal line above or below it, as far left as possible."""
        left = self._axes.get_xlim()[0]
        places = [Placement("left", dx, dy) for dx in range(5, 280, 40) for dy in (5.0, -15.0)]
        self.write(text, (left, level), places, **style)

    def write(
        self,
        text: str,
        at: tuple[float, float],
        placements: Sequence[Placement] = (*BESIDE, *AWAY),
        **style: Any,
    ) -> None:
        """Write a text at the placement that covers least, beside its point if possible."""
        (point,) = self._in_units([at])
        width = text_width(text, style.get("weight", "normal"))
        best = min(placements, key=lambda place: self._cost(place, point, width))
        box = box_of(place=best, point=point, width=width)
        offset: dict[str, Any] = {"xytext": (best.dx, best.dy), "textcoords": "offset points"}
        self._axes.annotate(text, at, ha=best.ha, **offset, **style)
        self._taken.append(box)
        if best.leader:
            leader = leader_to(box, point)
            line = Line2D(*leader.T, transform=None, color=colour("muted"), linewidth=1.0)
            self._axes.add_artist(line)
            self._markers = np.concatenate([self._markers, dense(leader)])

    def _cost(self, place: Placement, point: np.ndarray, width: float) -> float:
        box = box_of(place, point, width)
        others = self._markers[np.abs(self._markers - point).max(axis=1) > 1.0]
        covered = covers(box, self._curve).sum() + OVER_MARKER * covers(box, others, MARKER).sum()
        labels = sum(overlap(box, other) for other in self._taken)
        frame = self._axes.get_window_extent()
        off = max(0.0, frame.x0 - box.left) + max(0.0, box.right - frame.x1 - 8)
        off += max(0.0, frame.y0 - box.bottom) + max(0.0, box.top - frame.y1 - 20)
        cost = float(covered) + OVER_LABEL * labels + OFF_AXES * off
        return cost + LEADER + self._crossed(dense(leader_to(box, point)), others) if place.leader else cost

    def _crossed(self, leader: np.ndarray, markers: np.ndarray) -> float:
        """Return the cost of the labels, markers and curves that a leader [points, 2] crosses."""
        labels = sum(bool(covers(box, leader).any()) for box in self._taken)
        passed = (distances(markers, leader) < MARKER).any(axis=1).sum()
        curve = (distances(self._curve, leader) < 3.0).any(axis=1).sum()
        return float(OVER_LABEL * labels + OVER_MARKER * passed + curve)

    def _in_units(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Return points in data coordinates in units: [points, 2]."""
        return np.asarray(self._axes.transData.transform(np.asarray(points, dtype=float).reshape(-1, 2)))


def text_width(text: str, weight: str) -> float:
    """Return the width of a text in units, in DejaVu Sans, which is wider than the page's own fonts."""
    font = FontProperties(family="DejaVu Sans", size=STYLE["font.size"], weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def box_of(place: Placement, point: np.ndarray, width: float) -> Box:
    """Return the area that a text of a width covers."""
    x, y = point
    left = x + place.dx - {"left": 0.0, "center": width / 2, "right": width}[place.ha]
    return Box(left, left + width, y + place.dy - 3, y + place.dy - 3 + LINE)


def overlap(one: Box, other: Box) -> bool:
    """Return True if two boxes overlap."""
    beside = one.right <= other.left or one.left >= other.right
    return not beside and one.bottom < other.top and one.top > other.bottom


def covers(box: Box, points: np.ndarray, radius: float = 0.0) -> np.ndarray:
    """Return for each of the points [points, 2] if the box covers part of the disc around it: [points]."""
    nearest = np.clip(points, (box.left, box.bottom), (box.right, box.top))
    return np.hypot(*(points - nearest).T) <= radius


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distances between points [n, 2] and others [m, 2]: [n, m]."""
    return np.asarray(np.hypot(*np.moveaxis(points[:, None] - others[None], -1, 0)))


def leader_to(box: Box, point: np.ndarray) -> np.ndarray:
    """Return both ends of a line from the edge of a marker to the nearest point of a text: [2, 2]."""
    end = np.clip(point, (box.left - 2, box.bottom), (box.right + 2, box.top))
    way = end - point
    return np.stack([point + way * min(1.0, MARKER / max(float(np.hypot(*way)), 1e-9)), end])


def dense(corners: np.ndarray) -> np.ndarray:
    """Return a line through corners [corners, 2] with a point every 4 units: [points, 2]."""
    if len(corners) < 2:
        return np.zeros((0, 2))
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.arange(0.0, along[-1] + 1.0, 4.0)
    return np.stack([np.interp(at, along, corners[:, axis]) for axis in (0, 1)], axis=1)
