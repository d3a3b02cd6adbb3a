"""Draw the charts of a sweep: the trade-off, effects of each factor, interactions of each pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import signed
from cpt.report.comparison.charts import line_style, ring_each
from cpt.report.schema import Interval
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, short, to_svg
from cpt.sweep.result import Configuration, FactorEffects, InteractionFact, SweepResult
from cpt.sweep.words import value_in_words

MOST_RINGS = 24
"""Largest number of configurations that are drawn with their numbers."""


def trade_off(found: SweepResult) -> str | None:
    """Draw every configuration: change of the minimised measure against that of the limited one.

    Returns:
        None if no configuration has both.
    """
    if len(found.measures) < 2:
        return None
    x, y = found.measures[:2]
    rows = [row for row in found.configurations if x in row.changes and y in row.changes]
    if not rows:
        return None
    with canvas(340, left=56) as (figure, axes):
        axes.grid(True, axis="both")
        for line in (axes.axhline, axes.axvline):
            line(0, color=colour("muted"), linewidth=1.25)
        _draw_front(axes, [row for row in rows if row.number in found.front], x, y)
        for row in rows:
            _draw_point(axes, row, x, y, front=row.number in found.front)
        axes.margins(0.12)
        chosen = found.recommendation.number if found.recommendation else None
        named = (
            rows if len(rows) <= MOST_RINGS else [row for row in rows if row.number in {*found.front, chosen}]
        )
        ring_each(axes, {row.number: (row.changes[x].value, row.changes[y].value) for row in named})
        _numbers(axes)
        label_axes(axes, f"change of {x} →", f"change of {y} ↑")
        described = "; ".join(
            f"{row.number}: {x} {signed(row.changes[x].value, 4)}, {y} {signed(row.changes[y].value, 4)}"
            for row in rows
        )
        return to_svg(figure, "sweep-trade-off", f"{x} against {y}", described)


def _draw_point(axes: Axes, row: Configuration, x: str, y: str, *, front: bool) -> None:
    shade = colour("ink" if front else "muted")
    a, b = row.changes[x], row.changes[y]
    if a.low is not None and a.high is not None:
        axes.plot([a.low, a.high], [b.value, b.value], color=shade, linewidth=3, alpha=0.25)
    if b.low is not None and b.high is not None:
        axes.plot([a.value, a.value], [b.low, b.high], color=shade, linewidth=3, alpha=0.25)
    axes.plot([a.value], [b.value], "o", color=shade, markersize=5)


def _draw_front(axes: Axes, rows: Sequence[Configuration], x: str, y: str) -> None:
    corners = sorted((row.changes[x].value, row.changes[y].value) for row in rows)
    if len(corners) > 1:
        axes.plot(
            *zip(*corners, strict=True),
            color=colour("ink"),
            dashes=(1, 2),
            drawstyle="steps-post",
            linewidth=1.25,
        )


def effects_chart(effects: FactorEffects, measure: str) -> str | None:
    """Draw the effect of each level against the first one, with intervals over seeds.

    Returns:
        None for a range, or without results.
    """
    lines: list[tuple[str, Interval]] = [
        (value_in_words(each.level), each.changes[measure])
        for each in effects.levels
        if measure in each.changes and each.level is not None
    ]
    if not lines:
        return None
    label = effects.key.rpartition(".")[2]
    with canvas(58 + 24 * len(lines), left=92, top=8) as (figure, axes):
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_yticks(range(len(lines)), [short(name, 13) for name, _ in lines])
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.axvline(0, color=colour("muted"), linewidth=1.25)
        for place, (_, change) in enumerate(lines):
            if change.low is not None and change.high is not None:
                axes.plot(
                    [change.low, change.high], [place, place], color=colour("domain"), linewidth=3, alpha=0.45
                )
            axes.plot([change.value], [place], "o", color=colour("domain"), markersize=8)
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
        label_axes(axes, f"{measure}, against {label} {value_in_words(effects.reference)}", "")
        described = "; ".join(f"{name}: {signed(change.value, 4)}" for name, change in lines)
        return to_svg(
            figure, f"effect-{safe_key(effects.key)}-{safe_key(measure)}", f"{label}: {measure}", described
        )


def interaction_chart(found: InteractionFact) -> str:
    """Draw the mean at each level of the first factor, one line for each level of the second.

    Parallel lines: no interaction.
    """
    a = list(dict.fromkeys(_hashable(x) for x, _, _ in found.cells))
    b = list(dict.fromkeys(_hashable(y) for _, y, _ in found.cells))
    with canvas(250, left=56, bottom=58) as (figure, axes):
        for number, level in enumerate(b, start=1):
            points = [(a.index(_hashable(x)), mean) for x, y, mean in found.cells if _hashable(y) == level]
            axes.plot(
                *zip(*sorted(points), strict=True), marker="o", **line_style(number), label=short(level, 24)
            )
        axes.set_xticks(range(len(a)), [short(level, 12) for level in a])
        axes.set_xlim(-0.3, len(a) - 0.7)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
        axes.legend(title=found.b.rpartition(".")[2], frameon=False, fontsize=10, title_fontsize=10)
        label_axes(axes, found.a.rpartition(".")[2], f"change of {found.measure}")
        described = "; ".join(
            f"{value_in_words(x)} and {value_in_words(y)}: {signed(mean, 4)}" for x, y, mean in found.cells
        )
        key = f"interaction-{safe_key(found.a)}-{safe_key(found.b)}-{safe_key(found.measure)}"
        return to_svg(figure, key, f"{found.a} and {found.b}", described)


def _hashable(level: Any) -> str:
    return value_in_words(level)


def range_chart(found: SweepResult, key: str, measure: str) -> str | None:
    """Draw a measure against a setting that was drawn from a range; None without two results."""
    points = [
        (float(row.values[key]), row.changes[measure].value)
        for row in found.configurations
        if measure in row.changes
    ]
    if len(points) < 2:
        return None
    xs = [x for x, _ in points]
    with canvas(230, left=56) as (figure, axes):
        axes.plot(*zip(*points, strict=True), "o", color=colour("domain"), markersize=6)
        if min(xs) > 0 and max(xs) / min(xs) >= 10:
            axes.set_xscale("log")
        axes.margins(0.08)
        axes.axhline(0, color=colour("muted"), linewidth=1.25)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
        label_axes(axes, key.rpartition(".")[2], f"change of {measure}")
        described = "; ".join(f"{x:.3g}: {signed(y, 4)}" for x, y in sorted(points) if math.isfinite(y))
        return to_svg(figure, f"range-{safe_key(key)}-{safe_key(measure)}", f"{key}: {measure}", described)


def _numbers(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
