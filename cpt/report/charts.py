"""The report's charts, each one inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from cpt.report.gap_chart import stability_gap
from cpt.report.schema import Interval, Probe, SchedulePhase, Task, Training
from cpt.report.theme import canvas, colour, label_axes, short, to_svg, token_axis
from cpt.report.wording import compact, duration, number, percent, rate

__all__ = [
    "bits_before_after",
    "learning_rate",
    "stability_gap",
    "tasks_before_after",
    "time_by_stage",
    "tokens_by_source",
    "training_loss",
]

ROUND_STEPS = [1, 2, 5, 10]

NAMED_PHASE = 0.14
"""A phase of a smaller share of the training has no room for its name."""


class Pair(NamedTuple):
    """One row of a dumbbell chart."""

    label: str
    role: str
    before: Interval
    after: Interval
    chance: float | None = None


class Bar(NamedTuple):
    """One row of a bar chart; the note is written at the bar's end."""

    label: str
    role: str
    length: float
    note: str


def training_loss(training: Training) -> str | None:
    """Training loss against tokens, raw and smoothed; nats per token."""
    rows = [
        (row.tokens, row.loss_nats, row.smoothed)
        for row in training.points
        if row.loss_nats is not None and math.isfinite(row.loss_nats) and row.smoothed is not None
    ]
    if len(rows) < 2:
        return None
    with canvas(230) as (figure, axes):
        tokens, raw, smoothed = (list(column) for column in zip(*rows, strict=True))
        axes.plot(tokens, raw, color=colour("muted"), linewidth=1, alpha=0.5)
        axes.plot(tokens, smoothed, color=colour("ink"))
        token_axis(axes, rows[-1][0])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", "nats per token")
        described = f"Smoothed, from {number(smoothed[0])} to {number(smoothed[-1])} nats per token."
        return to_svg(figure, "loss", "Training loss", described)


def learning_rate(training: Training) -> str | None:
    """Learning rate against tokens, with a line where a phase of the schedule begins."""
    rows = [(row.tokens, row.lr) for row in training.points if row.lr is not None]
    if len(rows) < 2:
        return None
    with canvas(230) as (figure, axes):
        rates = [lr for _, lr in rows]
        axes.plot([tokens for tokens, _ in rows], rates, color=colour("ink"))
        axes.set_ylim(0, max(rates) * 1.12 or 1.0)
        _mark_phases(axes, training.phases, rows[-1][0])
        token_axis(axes, rows[-1][0])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda lr, _: rate(lr)))
        label_axes(axes, "tokens trained", "learning rate")
        described = f"Peak {rate(max(rates))}, last step {rate(rates[-1])}."
        if training.phases:
            described += f" Phases: {', '.join(phase.name for phase in training.phases)}."
        return to_svg(figure, "lr", "Learning rate", described)


def _mark_phases(axes: Axes, phases: Sequence[SchedulePhase], last: int) -> None:
    """A dashed line at the beginning of every phase but the first; its name above where it has room."""
    ends = [*(phase.tokens for phase in phases[1:]), last]
    for phase, end in zip(phases, ends, strict=False):
        if phase.tokens:
            axes.axvline(phase.tokens, color=colour("muted"), linewidth=1, dashes=(3, 3))
        if end - phase.tokens >= NAMED_PHASE * last:
            middle = (phase.tokens + end) / 2
            where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
            axes.annotate(phase.name, (middle, 1.0), color=colour("muted"), **where)


def tokens_by_source(tokens: Mapping[str, int]) -> str | None:
    """Tokens trained, by source."""
    total = sum(tokens.values()) or 1
    rows = [Bar(source, source, n, f"{compact(n)} ({percent(n / total, 0)})") for source, n in tokens.items()]
    return bars("tokens", "Tokens trained, by source", rows)


def time_by_stage(seconds: Mapping[str, float]) -> str | None:
    """Seconds, by stage."""
    rows = [Bar(stage, "muted", spent, duration(spent)) for stage, spent in seconds.items()]
    return bars("seconds", "Time, by stage", rows)


def bars(key: str, title: str, rows: Sequence[Bar]) -> str | None:
    """Horizontal bars with their labels in front and their figures behind."""
    if not rows:
        return None
    with canvas(8 + 32 * len(rows), left=92, bottom=4, top=4) as (figure, axes):
        longest = max(row.length for row in rows) or 1.0
        axes.set(xlim=(0, longest * 1.42), ylim=(len(rows) - 0.5, -0.5), xticks=[])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        lengths, shades = [row.length for row in rows], [colour(row.role) for row in rows]
        axes.barh(range(len(rows)), lengths, height=0.6, color=shades)
        axes.set_yticks([])
        for y, row in enumerate(rows):
            note: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(row.note, (row.length, y), xytext=(8, 0), color=colour("muted"), **note)
            axes.annotate(short(row.label, 14), (0, y), xytext=(-91, 0), **note)
        return to_svg(figure, key, title, "; ".join(f"{row.label}: {row.note}" for row in rows))


def bits_before_after(probes: Mapping[str, Probe]) -> str | None:
    """Bits per byte of base and final model with intervals."""
    pairs = [
        Pair(f"{name} text", name, probe.before_interval, probe.after_interval)
        for name, probe in probes.items()
        if probe.before_interval and probe.after_interval
    ]
    return dumbbells("bits", "Bits per byte, base and final model", "bits per byte, lower is better", pairs)


def tasks_before_after(tasks: Mapping[str, Task]) -> str | None:
    """Task scores of base and final model with intervals and chance level."""
    pairs = [Pair(name, "ink", task.before, task.after, task.chance) for name, task in tasks.items()]
    return dumbbells(
        "tasks", "Task scores, base and final model", "score, higher is better", pairs, share=True
    )


def dumbbells(key: str, title: str, axis: str, pairs: Sequence[Pair], share: bool = False) -> str | None:
    """For each pair the base as a ring and below it the final model as a disc, each with its interval."""
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
        words = percent if share else number
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
