"""The training's own curves: loss and learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.report.schema import SchedulePhase, Training
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg, token_axis
from cpt.report.wording import number, rate

NAMED_PHASE = 0.14
"""A phase of a smaller share of the training has no room for its name."""


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
