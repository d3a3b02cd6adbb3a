"""The training's own curves: loss and learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import fixed, rate
from cpt.report.curves import smoothed
from cpt.report.schema import SchedulePhase, Training
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, to_svg, token_axis

NAMED_PHASE = 0.14
"""A phase of a smaller share of the training has no room for its name."""


PART_SPAN = 0.1
"""Span of a smoothed part of the loss, as a share of the points."""


class LossPoint(NamedTuple):
    """A finite loss of a step, and its running average."""

    tokens: int
    raw: float
    smoothed: float


def training_loss(training: Training) -> str | None:
    """Training loss against tokens, raw and smoothed; nats per token."""
    rows = [
        LossPoint(row.tokens, row.loss_nats, row.smoothed)
        for row in training.points
        if row.loss_nats is not None and math.isfinite(row.loss_nats) and row.smoothed is not None
    ]
    return _loss("loss", "Training loss", "nats per token", rows)


def loss_parts(training: Training) -> dict[str, str]:
    """Every part of the loss against tokens, raw and smoothed, by the part's name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in training.points:
        for name, value in row.loss_parts.items():
            if value is not None and math.isfinite(value):
                found.setdefault(name, []).append((row.tokens, value))
    charts = {}
    for name, curve in found.items():
        averages = smoothed([value for _, value in curve], span=PART_SPAN * len(curve))
        rows = [
            LossPoint(tokens, value, average)
            for (tokens, value), average in zip(curve, averages, strict=True)
            if average is not None
        ]
        if svg := _loss(f"loss-{safe_key(name)}", f"Part of the loss: {name}", "not weighted", rows):
            charts[name] = svg
    return charts


def _loss(key: str, title: str, unit: str, rows: Sequence[LossPoint]) -> str | None:
    if len(rows) < 2:
        return None
    with canvas(230) as (figure, axes):
        tokens, raw, average = (list(column) for column in zip(*rows, strict=True))
        axes.plot(tokens, raw, color=colour("muted"), linewidth=1, alpha=0.5)
        axes.plot(tokens, average, color=colour("ink"))
        token_axis(axes, rows[-1].tokens)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", unit)
        described = f"Smoothed, from {fixed(average[0])} to {fixed(average[-1])}, {unit}."
        return to_svg(figure, key, title, described)


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
