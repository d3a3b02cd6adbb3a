"""The stability gap drawn into a probe's training curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cpt.report.schema import Probe
from cpt.report.theme import canvas, colour, label_axes, to_svg, token_axis
from cpt.report.wording import gap_finding, has_gap, number, signed

BAND = 1.96
"""Standard errors on each side of a 95% band."""

VISIBLE = 0.09
"""A gap of a smaller share of the axis is not marked: its labels would hide it."""

FINAL_AT, RIGHT_END = 1.09, 1.16
"""Where the final model's marker and the axes' end lie, in tokens trained."""


class Reading(NamedTuple):
    """A finite point of a probe curve: tokens, bits per byte, standard error (0 if unknown)."""

    tokens: int
    level: float
    error: float


class Levels(NamedTuple):
    """The levels, in bits per byte, that the curve is read against."""

    base: float
    final: float
    worst: float


def stability_gap(name: str, probe: Probe, final: str) -> str | None:
    """A probe's bits per byte against tokens trained: base level, trough, recovery, area, final model.

    Args:
        final: what the end marker is called ("merged", "final").

    Returns:
        None if there is no curve.
    """
    curve = [
        Reading(point.tokens, point.value, point.standard_error or 0.0)
        for point in probe.curve
        if point.value is not None and math.isfinite(point.value)
    ]
    base = probe.training.before if probe.training else None
    if len(curve) < 2 or base is None:
        return None
    end = curve[-1].level if probe.permanent is None else base + probe.permanent
    levels = Levels(base, end, base + (probe.depth or 0.0))
    shade = colour(name)
    with canvas(270) as (figure, axes):
        span = curve[-1].tokens
        axes.set(xlim=(-0.02 * span, RIGHT_END * span), ylim=_limits(curve, levels))
        _draw_curve(axes, curve, base, shade)
        low, high = axes.get_ylim()
        visible = has_gap(probe) and levels.worst - base > VISIBLE * (high - low)
        if visible:
            _mark_gap(axes, probe, levels, span, shade)
        _name_base(axes, base, span, free_below=visible and (probe.recovery_tokens or span) > 0.3 * span)
        _mark_final(axes, curve[-1], levels, final, shade)
        token_axis(axes, span)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        label_axes(axes, "tokens trained", "bits per byte")
        described = (
            f"{gap_finding(name, probe)} Base {number(base)}, {final} {signed(end - base)} bits per byte."
        )
        key = "".join(char if char.isascii() and char.isalnum() else f"-{ord(char):x}-" for char in name)
        return to_svg(figure, f"gap-{key}", f"{name.capitalize()} text: bits per byte in training", described)


def _limits(curve: Sequence[Reading], levels: Levels) -> tuple[float, float]:
    """Limits of the y axis, with room for labels above and below the curve."""
    found = [*(reading.level for reading in curve), *levels]
    low, high = min(found), max(found)
    room = 0.24 * (high - low) or 0.05
    return low - room, high + room


def _draw_curve(axes: Axes, curve: Sequence[Reading], base: float, shade: str) -> None:
    """The curve, what of it lies above the base level, and its confidence band.

    The band is that of the level. It is left out where it would be wider than all that the curve does:
    the texts are the same at every step, so changes are known far better than levels.
    """
    tokens = [reading.tokens for reading in curve]
    levels = [reading.level for reading in curve]
    widest = max(BAND * reading.error for reading in curve)
    if 0.0 < 2 * widest < max(levels) - min(levels):
        lower, upper = ([reading.level + side * reading.error for reading in curve] for side in (-BAND, BAND))
        axes.fill_between(tokens, lower, upper, color=shade, alpha=0.13, linewidth=0)
    above = [level > base for level in levels]
    axes.fill_between(
        tokens, base, levels, where=above, interpolate=True, color=shade, alpha=0.32, linewidth=0
    )
    axes.axhline(base, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
    axes.plot(tokens, levels, color=shade)


def _name_base(axes: Axes, base: float, span: int, *, free_below: bool) -> None:
    """The base level's name: below its line at the left while the curve is above, else at the right."""
    at = (0.0, base) if free_below else (RIGHT_END * span, base)
    side = "left" if free_below else "right"
    _write(axes, f"base {number(base)}", at, below=free_below, ha=side, color=colour("muted"))


def _mark_gap(axes: Axes, probe: Probe, levels: Levels, span: int, shade: str) -> None:
    """Trough as a disc, recovery as a ring."""
    if probe.trough_tokens is not None:
        at = (probe.trough_tokens, levels.worst)
        axes.plot(*at, "o", color=shade, markersize=7, zorder=4)
        side = "left" if probe.trough_tokens < span / 2 else "right"
        text = f"trough {signed(probe.depth)}, step {probe.trough_step}"
        _write(axes, text, at, ha=side, color=shade, weight="bold")
    if probe.recovery_tokens is not None:
        at = (probe.recovery_tokens, levels.base)
        axes.plot(*at, "o", color=shade, markersize=7, markerfacecolor=colour("card"), mew=2, zorder=4)
        side = "left" if probe.recovery_tokens < span * 0.62 else "right"
        anchor = at if side == "left" else (RIGHT_END * span, levels.base)
        text = f"back at base, step {probe.recovery_step}"
        below = levels.final > levels.base
        _write(axes, text, anchor, below=below, ha=side, color=shade, weight="bold")


def _mark_final(axes: Axes, last: Reading, levels: Levels, final: str, shade: str) -> None:
    """The final model as a diamond, set apart from the curve: it may be merged and measured on other text."""
    at = (FINAL_AT * last.tokens, levels.final)
    axes.plot([last.tokens, at[0]], [last.level, levels.final], color=shade, linewidth=1.5, dashes=(1, 2))
    axes.plot(*at, "D", color=shade, markersize=7, zorder=4)
    low, high = axes.get_ylim()
    clear = (high - low) * 0.15
    above = levels.base < levels.final < levels.worst - clear
    clear_of = max if above else min
    end = (RIGHT_END * last.tokens, clear_of(levels.final, last.level))
    _write(
        axes,
        f"{final} {signed(levels.final - levels.base)}",
        end,
        below=not above,
        ha="right",
        color=shade,
        weight="bold",
    )


def _write(axes: Axes, text: str, at: tuple[float, float], *, below: bool = False, **style: Any) -> None:
    """A label just above (or below) a point."""
    offset = (0, -18 if below else 8)
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **style)
