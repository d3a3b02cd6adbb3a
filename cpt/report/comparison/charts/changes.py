"""Changes of several runs with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.report.comparison.charts.rings import ring, role
from cpt.report.schema import Interval
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, to_svg


class Line(NamedTuple):
    """One line of a chart of intervals: a run's change."""

    number: int
    run: str
    change: Interval


def intervals(
    key: str, title: str, axis: str, lines: Sequence[Line], words: Callable[[float], str]
) -> str | None:
    """Changes of several runs with their intervals, one below the other, around no change."""
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
