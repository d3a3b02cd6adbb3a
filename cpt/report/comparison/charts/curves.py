"""Curves of all runs in one chart, against the tokens trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.report.comparison.charts.rings import line_style, ring_ends
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, to_svg, token_axis


class Curve(NamedTuple):
    """A run's changes: tokens trained and the change since the start."""

    number: int
    run: str
    points: Sequence[tuple[int, float]]


def curve_chart(
    name: str, title: str, axis: str, curves: Sequence[Curve], words: Callable[[float], str]
) -> str | None:
    """Changes since the start against tokens trained, one curve for each run that has one.

    Args:
        name: of what changes, unlike all others on the page.
        words: how a change is written.
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
