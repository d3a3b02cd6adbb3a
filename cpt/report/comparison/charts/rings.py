"""A run's sign in a chart: its number in a ring of its colour, set where no ring covers another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from cpt.report.theme import colour

COLOURS = 8
"""Runs that have a colour of their own; beyond, colours come again with other dashes."""

DASHES: tuple[Any, ...] = ((None, None), (6, 2), (2, 1.5), (7, 2, 2, 2))

RING = 16.0
"""Room that a ring takes, in units."""


def role(number: int) -> str:
    """Name of a run's colour."""
    return f"run-{(number - 1) % COLOURS + 1}"


def line_style(number: int) -> dict[str, Any]:
    """A run's colour and dash pattern."""
    return {"color": colour(role(number)), "dashes": DASHES[(number - 1) // COLOURS % len(DASHES)]}


def ring(
    axes: Axes,
    number: int,
    at: tuple[float, float],
    *,
    offset: tuple[float, float] = (0, 0),
    coordinates: Any = "data",
    tied: bool = False,
) -> None:
    """A run's number in a ring of its colour."""
    shade = colour(role(number))
    axes.annotate(
        str(number),
        at,
        xytext=offset,
        xycoords=coordinates,
        textcoords="offset points",
        ha="center",
        va="center_baseline",
        color=shade,
        fontsize=10,
        weight="bold",
        annotation_clip=False,
        zorder=6,
        bbox={
            "boxstyle": "circle,pad=0.18",
            "facecolor": colour("card"),
            "edgecolor": shade,
            "linewidth": 1.75,
        },
        arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 1} if tied else None,
    )


def ring_each(axes: Axes, places: Mapping[int, tuple[float, float]]) -> None:
    """A numbered ring at each place; those that would cover each other are moved apart and tied to theirs."""
    axes.autoscale_view()
    numbers = list(places)
    points = [axes.transData.transform(places[number]) for number in numbers]
    for group in _crowds(points):
        heights = spread([points[index][1] for index in group], RING)
        for index, height in zip(group, heights, strict=True):
            moved = height - points[index][1]
            ring(axes, numbers[index], places[numbers[index]], offset=(0, moved), tied=abs(moved) > 1)


def _crowds(points: Sequence[Any]) -> list[list[int]]:
    """Indices of points, those together that rings around them would bring together."""
    groups: list[list[int]] = []
    for index, point in enumerate(points):
        near = [group for group in groups if any(math.dist(point, points[other]) < RING for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), index])
    return groups


def ring_ends(axes: Axes, ends: Mapping[int, tuple[int, float]], x: float) -> None:
    """Numbered rings in a column at the right, each tied to its curve's end."""
    axes.autoscale_view()
    heights = [axes.transData.transform((0, rise))[1] for _, rise in ends.values()]
    low, high = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    placed = spread(heights, RING)
    shift = max(0.0, low + RING / 2 - min(placed)) - max(0.0, max(placed) - (high - RING / 2))
    for (number, end), height in zip(ends.items(), placed, strict=True):
        at = axes.transData.inverted().transform((0, height + shift))[1]
        axes.plot([end[0], x], [end[1], at], color=colour(role(number)), linewidth=1, alpha=0.7)
        ring(axes, number, (x, at))


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions near the wanted ones, in their order, that are at least a gap apart.

    Neighbours that are too near form a block, which lies as near to what its members want as it can (least
    squares): pool adjacent violators.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[list[float]] = []  # each: what its members want, less their place in the block
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * gap])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            blocks[-2:] = [[*blocks[-2], *blocks[-1]]]
    placed = [_mean(block) for block in blocks for _ in block]
    found = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        found[index] = placed[rank] + rank * gap
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
