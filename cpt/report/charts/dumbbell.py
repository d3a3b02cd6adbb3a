"""Draw dumbbell charts: scores of the base and the final model with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cpt.formatting import fixed, percent
from cpt.report.schema import Interval, Probe, Task
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, short, to_svg


class Pair(NamedTuple):
    """One row of a dumbbell chart."""

    label: str
    role: str
    before: Interval
    after: Interval
    chance: float | None = None


def bits_before_after(probes: Mapping[str, Probe]) -> str | None:
    """Draw the bits per byte of base and final model with intervals."""
    pairs = [
        Pair(f"{name} text", name, probe.before_interval, probe.after_interval)
        for name, probe in probes.items()
        if probe.before_interval and probe.after_interval
    ]
    return dumbbells("bits", "Bits per byte, base and final model", "bits per byte, lower is better", pairs)


def tasks_before_after(tasks: Mapping[str, Task]) -> str | None:
    """Draw the task scores of base and final model with intervals and chance level."""
    pairs = [Pair(name, "ink", task.before, task.after, task.chance) for name, task in tasks.items()]
    return dumbbells(
        "tasks", "Task scores, base and final model", "score, higher is better", pairs, share=True
    )


def dumbbells(key: str, title: str, axis: str, pairs: Sequence[Pair], share: bool = False) -> str | None:
    """Draw each pair with intervals: the base as a ring and below it the final model as a disc."""
    if not pairs:
        return None
    with canvas(52 + 64 * len(pairs), left=4, top=2) as (figure, axes):
        axes.set_ylim(len(pairs) - 0.42, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set_yticks([])
        for row, pair in enumerate(pairs):
            _draw_pair(axes, row, pair)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND_STEPS))
        if share:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        label_axes(axes, axis, "")
        words = percent if share else fixed
        levels = (f"{p.label}: base {words(p.before.value)}, final {words(p.after.value)}" for p in pairs)
        return to_svg(figure, key, title, "; ".join(levels))


def _draw_pair(axes: Axes, row: int, pair: Pair) -> None:
    shade = colour(pair.role)
    top, bottom = row - 0.05, row + 0.25
    if pair.chance is not None:
        chance = [pair.chance, pair.chance]
        axes.plot(chance, [top - 0.12, bottom + 0.12], color=colour("muted"), linewidth=1.5, dashes=(2, 2))
    axes.plot([pair.before.value, pair.after.value], [top, bottom], color=shade, linewidth=1.25)
    for level, y, face in ((pair.before, top, colour("card")), (pair.after, bottom, shade)):
        if level.low is not None and level.high is not None:
            axes.plot([level.low, level.high], [y, y], color=shade, linewidth=3, alpha=0.35)
        axes.plot([level.value], [y], "o", color=shade, markerfacecolor=face, markeredgewidth=2, markersize=8)
    where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
    axes.annotate(short(pair.label, 30), (0, row - 0.38), weight="bold", **where)
