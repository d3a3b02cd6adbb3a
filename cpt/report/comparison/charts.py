"""Draw charts of several runs as inline SVG.

Each run has a colour, a dash pattern, and its number in a ring. Rings that would overlap are moved apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import compact, signed
from cpt.report.charts.scatter import Point
from cpt.report.comparison.schema import ComparedProbe, RunRow
from cpt.report.curves import changes
from cpt.report.schema import Interval, StabilityGap, TaskCurve
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, to_svg, token_axis

COLOURS = 8
"""Number of colours; further runs repeat them with other dash patterns."""

DASHES: tuple[Any, ...] = ((None, None), (6, 2), (2, 1.5), (7, 2, 2, 2))

RING = 16.0
"""Diameter of a ring, in units."""


def role(number: int) -> str:
    """Return the role of a run's colour."""
    return f"run-{(number - 1) % COLOURS + 1}"


def line_style(number: int) -> dict[str, Any]:
    """Return the colour and dash pattern of a run."""
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
    """Draw a run's number in a ring of its colour."""
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
    """Draw a numbered ring at each place; overlapping rings are moved apart and tied to their places."""
    axes.autoscale_view()
    numbers = list(places)
    points = [axes.transData.transform(places[number]) for number in numbers]
    for group in _crowds(points):
        heights = spread([points[index][1] for index in group], RING)
        for index, height in zip(group, heights, strict=True):
            moved = height - points[index][1]
            ring(axes, numbers[index], places[numbers[index]], offset=(0, moved), tied=abs(moved) > 1)


def _crowds(points: Sequence[Any]) -> list[list[int]]:
    """Return groups of indices of points whose rings would overlap, directly or in a chain."""
    groups: list[list[int]] = []
    for index, point in enumerate(points):
        near = [group for group in groups if any(math.dist(point, points[other]) < RING for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), index])
    return groups


def ring_ends(axes: Axes, ends: Mapping[int, tuple[int, float]], x: float) -> None:
    """Draw numbered rings in a column at the right, each tied to the end of its curve."""
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
    """Return positions at least a gap apart, in order, with least squared distance to the wanted ones.

    Neighbours that are too near form a block at the mean of its members' wishes (pool adjacent violators).
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[list[float]] = []  # per block: wanted positions minus the offset in the block
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


def rises(probe: ComparedProbe | None) -> list[tuple[int, float]]:
    """Return a probe's readings above the common start: tokens, bits per byte; empty on other text.

    Changes are paired, on the same documents as the first reading, if that is known.
    """
    if probe is None or probe.offset is None:
        return []
    return [(tokens, change + probe.offset) for tokens, change in _by_tokens(probe)]


def gains(task: TaskCurve | None) -> list[tuple[int, float]]:
    """Return the changes of a task's accuracy since the first reading: tokens, share of 1."""
    return _by_tokens(task) if task else []


def _by_tokens(curve: StabilityGap) -> list[tuple[int, float]]:
    tokens = {point.step: point.tokens for point in curve.curve}
    return [(tokens[step], change) for step, change in changes(curve.curve).items()]


def tokens_by_source(rows: Sequence[RunRow]) -> str | None:
    """Draw the trained tokens of each run as a bar divided by source."""
    shown = [row for row in rows if row.trained]
    if not shown:
        return None
    longest = max(row.trained for row in shown)
    with canvas(8 + 32 * len(shown), left=28, bottom=4, top=4) as (figure, axes):
        axes.set(xlim=(0, longest * 1.2), ylim=(len(shown) - 0.5, -0.5), xticks=[], yticks=[])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        for y, row in enumerate(shown):
            begin = 0
            for source, tokens in row.tokens.items():
                axes.barh(y, tokens, left=begin, height=0.6, color=colour(source))
                begin += tokens
            note: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(compact(begin), (begin, y), xytext=(6, 0), color=colour("muted"), **note)
            ring(axes, row.number, (0, y), offset=(-16, 0))
        described = "; ".join(
            f"{row.name}: " + ", ".join(f"{count:,} {source}" for source, count in row.tokens.items())
            for row in shown
        )
        return to_svg(figure, "tokens", "Tokens trained, by source", described)


class Line(NamedTuple):
    """One line of a chart of intervals: the change of a run."""

    number: int
    run: str
    change: Interval


def intervals(
    key: str, title: str, axis: str, lines: Sequence[Line], words: Callable[[float], str]
) -> str | None:
    """Draw the changes of several runs with their intervals, one below the other."""
    if not lines:
        return None
    with canvas(54 + 24 * len(lines), left=28, top=6) as (figure, axes):
        axes.set(ylim=(len(lines) - 0.4, -0.6), yticks=[])
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.axvline(0, color=colour("muted"), linewidth=1.25)
        for y, line in enumerate(lines):
            shade = colour(role(line.number))
            if line.change.low is not None and line.change.high is not None:
                axes.plot([line.change.low, line.change.high], [y, y], color=shade, linewidth=3, alpha=0.45)
            axes.plot([line.change.value], [y], "o", color=shade, markersize=8)
            ring(axes, line.number, (0, y), offset=(-16, 0), coordinates=("axes fraction", "data"))
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
        label_axes(axes, axis, "")
        described = "; ".join(f"{line.run}: {words(line.change.value)}" for line in lines)
        return to_svg(figure, f"change-{safe_key(key)}", title, described)


class Curve(NamedTuple):
    """Changes of a run: trained tokens, and change since the start."""

    number: int
    run: str
    points: Sequence[tuple[int, float]]


def curve_chart(
    name: str, title: str, axis: str, curves: Sequence[Curve], words: Callable[[float], str]
) -> str | None:
    """Draw changes since the start against tokens, one curve for each run that has readings.

    Args:
        name: Name of the changing quantity, unique on the page.
        title: Title of the chart.
        axis: Name of the y axis.
        curves: Curves of the runs.
        words: Format of a change.
    """
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return None
    span = max(curve.points[-1][0] for curve in drawn) or 1
    with canvas(290) as (figure, axes):
        axes.axhline(0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        for curve in drawn:
            axes.plot(*zip(*curve.points, strict=True), linewidth=1.75, **line_style(curve.number))
        axes.set_xlim(-0.02 * span, 1.14 * span)
        axes.margins(y=0.08)
        ring_ends(axes, {curve.number: curve.points[-1] for curve in drawn}, 1.09 * span)
        token_axis(axes, span)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
        label_axes(axes, "tokens trained", axis)
        described = "; ".join(_described(curve, words) for curve in drawn)
        return to_svg(figure, f"curves-{safe_key(name)}", title, described)


def _described(curve: Curve, words: Callable[[float], str]) -> str:
    changes = [change for _, change in curve.points]
    ends = f"at the end {words(changes[-1])}"
    return f"{curve.run}: between {words(min(changes))} and {words(max(changes))}, {ends}"


def trade_off(rows: Sequence[RunRow], front: Sequence[str]) -> str | None:
    """Draw domain gain against general rise: each run's path, its end, and the Pareto front.

    Returns:
        None if no run has both.
    """
    ends = {row.name: end for row in rows if (end := _end(row)) is not None}
    if not ends:
        return None
    with canvas(360, left=52) as (figure, axes):
        axes.grid(True, axis="both")
        axes.axhline(0, color=colour("muted"), linewidth=1.25)
        axes.axvline(0, color=colour("muted"), linewidth=1.25)
        shown = [row for row in rows if row.name in ends]
        for row in shown:
            _draw_way(axes, row, ends[row.name])
        _draw_front(axes, [ends[name] for name in front])
        for row in shown:
            _draw_intervals(axes, row, ends[row.name])
        axes.margins(0.1)
        ring_each(axes, {row.number: ends[row.name] for row in shown})
        beside: dict[str, Any] = {"xytext": (-5, -13), "textcoords": "offset points", "ha": "right"}
        axes.annotate("base", (0, 0), color=colour("muted"), **beside)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
            axis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 2)))
        label_axes(axes, "fewer bits per byte on domain text →", "more bits per byte on general text ↑")
        ends_in_words = (
            f"{row.name}: domain {signed(-ends[row.name].gain)}, general {signed(ends[row.name].rise)}"
            for row in shown
        )
        described = "; ".join([*ends_in_words, f"on the front: {', '.join(front) or 'none'}"])
        return to_svg(figure, "trade-off", "Domain gain against general rise", described)


def _end(row: RunRow) -> Point | None:
    domain, general = row.probes.get("domain"), row.probes.get("general")
    if row.on_front is None or not domain or not general or not domain.change or not general.change:
        return None
    return Point(-domain.change.value, general.change.value)


def _path(row: RunRow) -> list[Point]:
    """Return the points of a run after each reading of both probes."""
    domain, general = (dict(rises(row.probes.get(name))) for name in ("domain", "general"))
    return [Point(-domain[tokens], general[tokens]) for tokens in domain if tokens in general]


def _draw_way(axes: Axes, row: RunRow, end: Point) -> None:
    """Draw the readings, and a line from the last one to the final model."""
    path, style = _path(row), line_style(row.number)
    if path:
        axes.plot(*zip(*path, strict=True), linewidth=1.5, alpha=0.75, **style)
        tie: dict[str, Any] = {**style, "dashes": (1, 1.5)}
        axes.plot(*zip(path[-1], end, strict=True), linewidth=1, alpha=0.75, **tie)


def _draw_front(axes: Axes, ends: Iterable[Point]) -> None:
    """Draw the Pareto front as steps: no run is below and to the right of it."""
    corners = sorted(ends)
    if len(corners) > 1:
        gains, rises = zip(*corners, strict=True)
        axes.plot(gains, rises, color=colour("ink"), linewidth=1.25, dashes=(1, 2), drawstyle="steps-pre")


def _draw_intervals(axes: Axes, row: RunRow, end: Point) -> None:
    domain, general = row.probes["domain"].change, row.probes["general"].change
    style: dict[str, Any] = {"color": colour(role(row.number)), "linewidth": 3, "alpha": 0.35}
    if domain and domain.low is not None and domain.high is not None:
        axes.plot([-domain.high, -domain.low], [end.rise, end.rise], **style)
    if general and general.low is not None and general.high is not None:
        axes.plot([end.gain, end.gain], [general.low, general.high], **style)
