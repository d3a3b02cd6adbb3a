"""Draw a comparison: both scores as a dumbbell, beside it the difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cpt.atomic import atomic_file
from cpt.errors import UsageError
from evals.comparing.comparison import AverageComparison, Comparison, GroupComparison, TaskComparison
from evals.comparing.tables import Row, by_suite

FORMATS = (".svg", ".png", ".pdf")

_COLOURS = {"better": "#0072b2", "worse": "#bf4b00", "no change": "#6b7683"}
_RULE = "#dfe3e6"
_WIDTH, _ROW, _EDGES = 10.0, 0.26, 1.3
"""Width of the picture, height of a row, height of title and legend together, in inches."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cpt",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def plot(comparison: Comparison, file: Path) -> None:
    """Draw a comparison into a file; the suffix decides the format.

    Tasks in which lower is better have another scale. They are named below the picture, not drawn.

    Raises:
        UsageError: The suffix is another, or there is nothing to draw.
    """
    if file.suffix not in FORMATS:
        raise UsageError(f"{file}: a picture ends in {', '.join(FORMATS)}")
    rows = [row for _, rows in by_suite(comparison) for row in rows]
    drawn = [row for row in rows if not isinstance(row, TaskComparison) or row.higher_is_better]
    if not drawn:
        raise UsageError("nothing to draw: in every task compared lower is better, or there is no signal")
    left_out = [row.task for row in rows if isinstance(row, TaskComparison) and not row.higher_is_better]
    with mpl.rc_context(_STYLE):
        figure = _figure(comparison, drawn, left_out)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file, durable=False, concurrent=True) as scratch:
            figure.savefig(scratch, format=file.suffix.removeprefix("."))


def _figure(comparison: Comparison, rows: Sequence[Row], left_out: Sequence[str]) -> Figure:
    figure = Figure(figsize=(_WIDTH, _EDGES + _ROW * len(rows)), layout="constrained")
    scores, differences = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, row in enumerate(rows):
        _dumbbell(scores, place, row)
        _difference(differences, place, row)
    _name_rows(scores, rows)
    differences.axvline(0, color="black", linewidth=0.8, zorder=0)
    differences.tick_params(axis="y", length=0)
    scores.set_xlabel("score")
    differences.set_xlabel(f"B minus A, {100 * comparison.confidence:g}% intervals")
    figure.suptitle(f"A: {comparison.a}   B: {comparison.b}", fontsize=9)
    below = "colours are verdicts, corrected for the number of groups and tasks"
    if left_out:
        below += f"; not drawn, as lower is better: {', '.join(left_out)}"
    if comparison.no_signal:
        below += f"; not drawn, as neither model is above guessing: {_count(len(comparison.no_signal))}"
    figure.legend(handles=_legend(), loc="outside lower center", ncols=6, frameon=False, title=below)
    return figure


def _dumbbell(axes: Axes, place: int, row: Row) -> None:
    """Draw A as a ring, B as a disc, guessing as a tick."""
    shade = _COLOURS[row.verdict]
    axes.plot([row.a, row.b], [place, place], color=shade, linewidth=2.5, alpha=0.45, zorder=1)
    axes.plot(row.a, place, "o", color=shade, markerfacecolor="white", markersize=6, zorder=2)
    axes.plot(row.b, place, "o", color=shade, markersize=6, zorder=3)
    if isinstance(row, TaskComparison) and row.chance is not None:
        axes.plot(row.chance, place, "|", color="black", markersize=8, zorder=1)


def _difference(axes: Axes, place: int, row: Row) -> None:
    shade = _COLOURS[row.verdict]
    if row.interval is not None:
        axes.plot(row.interval, [place, place], color=shade, linewidth=1.5)
    axes.plot(row.difference, place, "o", color=shade, markersize=5)


def _name_rows(axes: Axes, rows: Sequence[Row]) -> None:
    """Name the rows from the top down; averages and groups are bold, an average has a rule above it."""
    average = [isinstance(row, AverageComparison) for row in rows]
    names = [_name(row) for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for place, label in enumerate(axes.get_yticklabels()):
        if not isinstance(rows[place], TaskComparison):
            label.set_fontweight("bold")
        if average[place]:
            for panel in axes.figure.axes:
                panel.axhline(place - 0.5, color=_RULE, linewidth=1, zorder=0)


def _name(row: Row) -> str:
    if isinstance(row, AverageComparison):
        return row.suite
    return f"{row.group}, {_count(row.tasks)}" if isinstance(row, GroupComparison) else row.task


def _count(tasks: int) -> str:
    return f"{tasks:,} task{'' if tasks == 1 else 's'}"


def _legend() -> list[Line2D]:
    def sign(label: str, marker: str, colour: str, face: str | None = None) -> Line2D:
        face = colour if face is None else face
        return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="", label=label)

    grey = _COLOURS["no change"]
    return [
        sign("A", "o", grey, "white"),
        sign("B", "o", grey),
        sign("guessing", "|", "black"),
        *(sign(verdict, "s", colour) for verdict, colour in _COLOURS.items()),
    ]
