"""Draw the stability gap in a probe's training curve: bits per byte of a text, or a task's measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cpt.formatting import Z_95, count, fixed, percent, points, signed
from cpt.report.charts.labels import Labels, Placement
from cpt.report.schema import Action, CurvePoint, Gate, Probe, StabilityGap, TaskCurve
from cpt.report.summary_text import gap_finding, has_gap, task_finding
from cpt.report.theme import canvas, colour, label_axes, mark_actions, safe_key, to_svg, token_axis

VISIBLE = 0.09
"""Smallest share of the axis at which a gap is marked: labels would hide a smaller one."""

FINAL_AT, RIGHT_END = 1.09, 1.16
"""Positions of the final model's marker and of the axis end, in multiples of the trained tokens."""

FAR = 2.0
"""Largest distance of a drawn limit from the base, in multiples of the curve's largest change.

A limit farther away would flatten the curve.
"""


class Reading(NamedTuple):
    """A finite point of a probe curve: tokens, level, standard error of its change (0 if unknown)."""

    tokens: int
    level: float
    error: float


class CurveUnit(NamedTuple):
    """Unit of a curve: formats of levels and changes, and the direction of worse: +1 up, -1 down."""

    name: str
    level: Callable[[float | None], str]
    change: Callable[[float | None], str]
    worse: int


BITS = CurveUnit("bits per byte", fixed, signed, 1)
ACCURACY = CurveUnit("accuracy", percent, lambda value: f"{points(value)} pts", -1)
P_GOLD = ACCURACY._replace(name="p_gold")


class GapChart(NamedTuple):
    """Content of one chart, in data coordinates.

    end: level of the final model.
    limits, deadlines: limits of the change as levels, and of the recovery in tokens.
    acted: tokens at which the controller acted.
    """

    curve: list[Reading]
    base: float
    end: float
    dip: StabilityGap
    measure: CurveUnit
    shade: str
    limits: list[float]
    deadlines: list[float]
    acted: list[int]

    @property
    def span(self) -> int:
        """Return the number of trained tokens."""
        return self.curve[-1].tokens

    @property
    def worst(self) -> float:
        """Return the level of the trough."""
        return self.base + self.measure.worse * abs(self.dip.depth or 0.0)


def stability_gap(
    name: str, probe: Probe, final: str, gates: Sequence[Gate] = (), actions: Sequence[Action] = ()
) -> str | None:
    """Draw the bits per byte of a text against tokens: base level, trough, recovery, limits, final model.

    Args:
        name: Name of the probe.
        probe: Facts of the probe.
        final: Label of the end marker ("merged", "final").
        gates, actions: All gates and actions of the run; those of this probe are drawn.

    Returns:
        None without a curve.
    """
    training = probe.training
    base = training.before if training else None
    curve = readings(probe.curve, base)
    if len(curve) < 2 or base is None:
        return None
    end = curve[-1].level if probe.permanent is None else base + probe.permanent
    drawn = _drawn(name, curve, base, end, probe, BITS, colour(name), gates, actions)
    title = f"{name.capitalize()} text: bits per byte in training"
    return _draw(drawn, final, f"gap-{safe_key(name)}", title, gap_finding(name, probe))


def task_curve(
    name: str, task: TaskCurve, gates: Sequence[Gate] = (), actions: Sequence[Action] = ()
) -> str | None:
    """Draw the measure of a task against tokens, in the same way as a text; None without a curve."""
    curve = readings(task.curve, task.before)
    if len(curve) < 2 or task.before is None:
        return None
    measure = P_GOLD if task.unit == P_GOLD.name else ACCURACY
    drawn = _drawn(name, curve, task.before, curve[-1].level, task, measure, colour("ink"), gates, actions)
    title = f"{name}: {measure.name} in training"
    return _draw(drawn, "end", f"task-{safe_key(name)}", title, task_finding(name, task))


def readings(curve: Sequence[CurvePoint], base: float | None) -> list[Reading]:
    """Return the finite points of a curve.

    A level is the base level plus the paired change if that is known, else the measured level.
    """
    found = []
    for point in curve:
        paired = None if base is None or point.rise is None else base + point.rise
        level = point.value if paired is None else paired
        if level is not None and math.isfinite(level):
            found.append(Reading(point.tokens, level, point.rise_error or 0.0))
    return found


def _drawn(
    name: str,
    curve: list[Reading],
    base: float,
    end: float,
    dip: StabilityGap,
    measure: CurveUnit,
    shade: str,
    gates: Sequence[Gate],
    actions: Sequence[Action],
) -> GapChart:
    """Return the content of a chart: limits of this probe that are near enough, and actions for it."""
    found = [reading.level - base for reading in curve]
    reach = FAR * max(*map(abs, found), abs(dip.depth or 0.0), 1e-9)
    changes = [gate.allowed for gate in gates if gate.limits_change_of(name) and gate.allowed is not None]
    near = sorted({base + change for change in changes if abs(change) <= reach})
    last = curve[-1].tokens
    deadlines = [
        gate.allowed * last for gate in gates if gate.limits_recovery_of(name) and gate.allowed is not None
    ]
    acted = [action.tokens for action in actions if action.probe == name and action.tokens <= last]
    return GapChart(curve, base, end, dip, measure, shade, near, deadlines, acted)


def _draw(drawn: GapChart, final: str, key: str, title: str, finding: str) -> str:
    measure = drawn.measure
    with canvas(270) as (figure, axes):
        axes.set(xlim=(-0.02 * drawn.span, RIGHT_END * drawn.span), ylim=_limits(drawn))
        _draw_curve(axes, drawn)
        low, high = axes.get_ylim()
        corners = [(float(reading.tokens), reading.level) for reading in drawn.curve]
        end = (FINAL_AT * drawn.span, drawn.end)
        labels = Labels(axes, [*corners, end], [end])
        if has_gap(drawn.dip) and abs(drawn.worst - drawn.base) > VISIBLE * (high - low):
            _mark_gap(axes, labels, drawn)
        _mark_final(axes, labels, drawn, final)
        _mark_limits(axes, labels, drawn)
        _name_base(labels, drawn)
        token_axis(axes, drawn.span)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if measure is not BITS:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if measure is ACCURACY else 1))
        label_axes(axes, "tokens trained", measure.name)
        change = measure.change(drawn.end - drawn.base)
        described = f"{finding} Base {measure.level(drawn.base)}, {final} {change}."
        if drawn.limits:
            limits = (measure.change(limit - drawn.base) for limit in drawn.limits)
            described += f" Limit {', '.join(limits)}."
        if drawn.acted:
            described += f" The controller acted {len(drawn.acted)} times."
        return to_svg(figure, key, title, described)


def _limits(drawn: GapChart) -> tuple[float, float]:
    """Return the limits of the y axis, with space for labels above and below the curve."""
    found = [reading.level for reading in drawn.curve]
    found += [drawn.base, drawn.end, drawn.worst, *drawn.limits]
    found += [reading.level + side * reading.error for reading in drawn.curve for side in (-Z_95, Z_95)]
    low, high = min(found), max(found)
    room = 0.22 * (high - low) or 0.05
    return low - room, high + room


def _draw_curve(axes: Axes, drawn: GapChart) -> None:
    """Draw the curve, its area on the wrong side of the base level, and the interval of its change."""
    tokens = [reading.tokens for reading in drawn.curve]
    levels = [reading.level for reading in drawn.curve]
    if any(reading.error for reading in drawn.curve):
        lower, upper = (
            [reading.level + side * reading.error for reading in drawn.curve] for side in (-Z_95, Z_95)
        )
        axes.fill_between(tokens, lower, upper, color=drawn.shade, alpha=0.2, linewidth=0)
    if drawn.measure is BITS:
        lost = [level > drawn.base for level in levels]
        axes.fill_between(
            tokens,
            drawn.base,
            levels,
            where=lost,
            interpolate=True,
            color=drawn.shade,
            alpha=0.16,
            linewidth=0,
        )
    axes.axhline(drawn.base, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
    for limit in drawn.limits:
        axes.axhline(limit, color=colour("limit"), linewidth=1.5)
    for deadline in drawn.deadlines:
        axes.axvline(deadline, color=colour("limit"), linewidth=1.5, dashes=(4, 3))
    axes.plot(tokens, levels, color=drawn.shade)
    mark_actions(axes, drawn.acted)


def _mark_gap(axes: Axes, labels: Labels, drawn: GapChart) -> None:
    """Draw the trough as a disc and the recovery as a ring."""
    dip, shade = drawn.dip, drawn.shade
    if dip.trough_tokens is not None:
        at = (dip.trough_tokens, drawn.worst)
        axes.plot(*at, "o", color=shade, markersize=7, zorder=4)
        depth = drawn.measure.change(drawn.worst - drawn.base)
        labels.write(f"trough {depth}, step {count(dip.trough_step)}", at, color=shade, weight="bold")
    if dip.recovery_tokens is not None:
        at = (dip.recovery_tokens, drawn.base)
        axes.plot(*at, "o", color=shade, markersize=7, markerfacecolor=colour("card"), mew=2, zorder=4)
        labels.write(f"back at base, step {count(dip.recovery_step)}", at, color=shade)


def _mark_final(axes: Axes, labels: Labels, drawn: GapChart, final: str) -> None:
    """Draw the final model as a diamond, apart from the curve: it may be merged, on other text."""
    last, at = drawn.curve[-1], (FINAL_AT * drawn.span, drawn.end)
    axes.plot([last.tokens, at[0]], [last.level, drawn.end], color=drawn.shade, linewidth=1.5, dashes=(1, 2))
    axes.plot(*at, "D", color=drawn.shade, markersize=7, zorder=4)
    text = f"{final} {drawn.measure.change(drawn.end - drawn.base)}"
    places = [Placement("right", 0.0, dy) for dy in (10.0, -20.0, 26.0, -36.0)]
    labels.write(text, (RIGHT_END * drawn.span, drawn.end), places, color=drawn.shade, weight="bold")


def _mark_limits(axes: Axes, labels: Labels, drawn: GapChart) -> None:
    for limit in drawn.limits:
        text = f"limit {drawn.measure.change(limit - drawn.base)}"
        labels.along(text, limit, color=colour("limit"))
    high = axes.get_ylim()[1]
    for deadline in drawn.deadlines:
        places = [
            Placement(ha, dx, dy) for dy in (-12.0, -30.0, 8.0) for ha, dx in (("left", 5), ("right", -5))
        ]
        text = f"back by {percent(deadline / drawn.span, 0)}"
        labels.write(text, (deadline, high), places, color=colour("limit"))


def _name_base(labels: Labels, drawn: GapChart) -> None:
    """Write the name of the base level at a free place on its line."""
    labels.along(f"base {drawn.measure.level(drawn.base)}", drawn.base, color=colour("muted"))
