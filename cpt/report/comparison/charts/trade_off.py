"""Domain gain against general rise: the way of every run, its end, and the front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import signed
from cpt.report.charts.scatter import Point
from cpt.report.comparison.charts.rings import line_style, ring_each, role
from cpt.report.comparison.curves import rises
from cpt.report.comparison.schema import RunRow
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg


def trade_off(rows: Sequence[RunRow], front: Sequence[str]) -> str | None:
    """Domain gain against general rise: each run's way there, its end, and the front.

    Returns:
        None if no run can be placed.
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
    """A run's places after each reading of both probes."""
    domain, general = (dict(rises(row.probes.get(name))) for name in ("domain", "general"))
    return [Point(-domain[tokens], general[tokens]) for tokens in domain if tokens in general]


def _draw_way(axes: Axes, row: RunRow, end: Point) -> None:
    """The readings, and a tie from the last of them to the final model."""
    path, style = _path(row), line_style(row.number)
    if path:
        axes.plot(*zip(*path, strict=True), linewidth=1.5, alpha=0.75, **style)
        tie: dict[str, Any] = {**style, "dashes": (1, 1.5)}
        axes.plot(*zip(path[-1], end, strict=True), linewidth=1, alpha=0.75, **tie)


def _draw_front(axes: Axes, ends: Iterable[Point]) -> None:
    """The steps below and beyond which no run lies."""
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
