"""Draw curves against tokens: loss, learning rate, controller, drift, norms of new rows, sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cpt.formatting import Z_95, compact, fixed, percent, rate, small
from cpt.report.charts.labels import Labels, Placement
from cpt.report.curves import smoothed
from cpt.report.schema import (
    Action,
    ControlPoint,
    CurvePoint,
    Gate,
    LayerUpdates,
    NewTokens,
    SchedulePhase,
    SourceTokens,
    Training,
)
from cpt.report.theme import (
    ROUND_STEPS,
    canvas,
    colour,
    label_axes,
    mark_actions,
    safe_key,
    short,
    to_svg,
    token_axis,
)

NAMED_SHARE = 0.08
"""Smallest share of the last batches at which a source's name fits into its area."""


EARLY_RATIO = 1.35
"""Bottom/top ratio that is exceeded early in continual pretraining (Guo et al. 2024)."""


def drift(curve: Sequence[CurvePoint], gates: Sequence[Gate] = ()) -> str | None:
    """Draw the KL divergence from the base with its 95% interval and limit; None without two readings."""
    rows = [
        (point.tokens, point.value, Z_95 * (point.standard_error or 0.0))
        for point in curve
        if point.value is not None and math.isfinite(point.value)
    ]
    if len(rows) < 2:
        return None
    tokens, values, errors = zip(*rows, strict=True)
    with canvas(230) as (figure, axes):
        lower, upper = ([v + side * e for v, e in zip(values, errors, strict=True)] for side in (-1, 1))
        axes.fill_between(tokens, lower, upper, color=colour("other"), alpha=0.18, linewidth=0)
        axes.plot(tokens, values, color=colour("other"))
        axes.axhline(0.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.margins(y=0.15)
        for gate in gates:
            if gate.unit == "nats per token" and gate.allowed is not None and gate.allowed < 3 * max(values):
                axes.axhline(gate.allowed, color=colour("limit"), linewidth=1.5)
                where: dict[str, Any] = {
                    "xytext": (0, 5),
                    "textcoords": "offset points",
                    "color": colour("limit"),
                }
                axes.annotate(f"limit {fixed(gate.allowed)}", (0, gate.allowed), **where)
        token_axis(axes, tokens[-1])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", "nats per token")
        described = f"At the end {fixed(values[-1])} nats per token, at most {fixed(max(values))}."
        return to_svg(figure, "drift", "Drift from the base", described)


def early_end(curve: Sequence[CurvePoint]) -> str | None:
    """Draw the probability of an end in mid-sentence on a logarithmic axis; None without two readings."""
    rows = [(point.tokens, point.value) for point in curve if point.value and math.isfinite(point.value)]
    if len(rows) < 2:
        return None
    tokens, values = zip(*rows, strict=True)
    with canvas(230) as (figure, axes):
        axes.plot(tokens, values, color=colour("other"))
        axes.axhline(values[0], color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.set_yscale("log")
        # the default locator sets no tick at all within one power of ten
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: small(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.15)
        token_axis(axes, tokens[-1])
        label_axes(axes, "tokens trained", "probability of an end")
        described = f"From {small(values[0])} to {small(values[-1])}, at most {small(max(values))}."
        return to_svg(figure, "early-end", "Ends in mid-sentence", described)


def new_token_norms(points: Sequence[NewTokens]) -> str | None:
    """Draw the mean norm of new embedding rows over that of old rows."""
    with canvas(230) as (figure, axes):
        drawn = []
        for side, role in (("input", "domain"), ("output", "general")):
            rows = [(point.tokens, getattr(point, side)) for point in points]
            rows = [(tokens, ratio) for tokens, ratio in rows if ratio is not None and math.isfinite(ratio)]
            if len(rows) >= 2:
                axes.plot(*zip(*rows, strict=True), color=colour(role), marker="o", markersize=3.2)
                drawn.append((side, role, rows))
        if not drawn:
            return None
        axes.axhline(1.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.margins(y=0.2)
        token_axis(axes, drawn[0][2][-1][0])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", "norm of new over old rows")
        labels = Labels(axes, [point for _, _, rows in drawn for point in rows])
        places = [Placement("right", 0.0, dy) for dy in (8.0, -18.0, 22.0, -32.0)]
        for side, role, rows in drawn:
            labels.write(
                f"{side} {fixed(rows[-1][1], 2)}", rows[-1], places, color=colour(role), weight="bold"
            )
        ends = (f"{side}: {fixed(rows[0][1], 2)} to {fixed(rows[-1][1], 2)}" for side, _, rows in drawn)
        return to_svg(figure, "new-tokens", "Norms of new tokens", f"{'; '.join(ends)}.")


def tokens_over_time(found: SourceTokens) -> str | None:
    """Draw the share of every source in the tokens since the previous point, stacked to 100%."""
    if len(found.tokens) < 2:
        return None
    shares = source_shares(found)
    with canvas(230) as (figure, axes):
        edges = [0.0] * len(found.tokens)
        inside: dict[str, Any] = {
            "xytext": (-8, 0),
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
        }
        for name, share in shares.items():
            tops = [edge + part for edge, part in zip(edges, [share[0], *share], strict=True)]
            axes.fill_between(
                found.tokens, edges, tops, step="pre", color=colour(name), alpha=0.3, linewidth=0
            )
            axes.step(found.tokens, tops, where="pre", color=colour(name), linewidth=1.5)
            if share[-1] > NAMED_SHARE:
                text = f"{short(name, 20)} {compact(found.sources[name][-1])}"
                end = (found.tokens[-1], (edges[-1] + tops[-1]) / 2)
                axes.annotate(text, end, color=colour(name), weight="bold", **inside)
            edges = tops
        axes.set(ylim=(0, 1), xlim=(0, found.tokens[-1]))
        axes.grid(False)
        token_axis(axes, found.tokens[-1])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share, 0)))
        label_axes(axes, "tokens trained", "share of each batch")
        totals = (f"{short(name, 20)} {compact(tokens[-1])}" for name, tokens in found.sources.items())
        return to_svg(figure, "sources", "Tokens by source over time", f"In all: {', '.join(totals)}.")


def source_shares(found: SourceTokens) -> dict[str, list[float]]:
    """Return the share of each source in the tokens between neighbouring points: [points - 1], sum 1."""
    trained = [
        sum(tokens[i + 1] - tokens[i] for tokens in found.sources.values()) or 1
        for i in range(len(found.tokens) - 1)
    ]
    return {
        name: [(tokens[i + 1] - tokens[i]) / whole for i, whole in enumerate(trained)]
        for name, tokens in found.sources.items()
    }


def bottom_top(found: LayerUpdates) -> str | None:
    """Draw the mean update of the bottom layers over that of the top layers."""
    curve = [
        (tokens, ratio)
        for tokens, ratio in zip(found.tokens, found.bottom_top, strict=False)
        if ratio is not None and math.isfinite(ratio)
    ]
    if len(curve) < 2:
        return None
    tokens, ratios = zip(*curve, strict=True)
    with canvas(230) as (figure, axes):
        axes.axhline(1.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.axhline(EARLY_RATIO, color=colour("muted"), linewidth=1.25, dashes=(1, 2))
        axes.plot(tokens, ratios, color=colour("domain"), marker="o", markersize=3.2)
        low, high = min(*ratios, 1.0), max(*ratios, EARLY_RATIO)
        room = 0.15 * (high - low)
        axes.set_ylim(low - room, high + room)
        token_axis(axes, tokens[-1])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", "bottom over top layers")
        described = f"From {fixed(ratios[0], 2)} to {fixed(ratios[-1], 2)}, greatest {fixed(max(ratios), 2)}."
        return to_svg(figure, "bottom-top", "Bottom layers against top layers", described)


def replay_share(points: Sequence[ControlPoint], actions: Sequence[Action]) -> str | None:
    """Draw the share of replay in the batch; None if it never changed."""
    curve = [(point.tokens, point.replay_share) for point in points if point.replay_share is not None]
    acted = [action.tokens for action in actions if "replay" in action.action]
    return _steps(
        "replay-share",
        "Replay share",
        "share of the batch",
        curve,
        acted,
        "replay",
        lambda share: percent(share, 0),
    )


def rate_factor(points: Sequence[ControlPoint], actions: Sequence[Action]) -> str | None:
    """Draw the controller's factor of the learning rate; None if it never changed."""
    curve = [(point.tokens, point.rate_factor) for point in points if point.rate_factor is not None]
    acted = [action.tokens for action in actions if "rate" in action.action]
    return _steps(
        "rate-factor",
        "Factor of the learning rate",
        "times the schedule's rate",
        curve,
        acted,
        "ink",
        lambda f: fixed(f, 2),
    )


def _steps(
    key: str,
    title: str,
    axis: str,
    curve: Sequence[tuple[int, float]],
    acted: Sequence[int],
    role: str,
    words: Callable[[float], str],
) -> str | None:
    """Draw a piecewise constant curve from zero, with triangles where the controller acted."""
    if len({value for _, value in curve}) < 2:
        return None
    tokens, values = zip(*curve, strict=True)
    with canvas(190) as (figure, axes):
        axes.step(tokens, values, where="post", color=colour(role))
        axes.fill_between(tokens, 0, values, step="post", color=colour(role), alpha=0.15, linewidth=0)
        axes.set_ylim(0, 1.15 * max(values) or 1.0)
        axes.set_xlim(0, tokens[-1])
        mark_actions(axes, acted)
        token_axis(axes, tokens[-1])
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
        label_axes(axes, "tokens trained", axis)
        ends = f"From {words(values[0])} to {words(values[-1])}"
        return to_svg(figure, key, title, f"{ends}, at most {words(max(values))}.")


NAMED_PHASE = 0.14
"""Smallest share of the training at which the name of a phase fits above it."""


PART_SPAN = 0.1
"""Span of the smoothing of a part of the loss, as a share of the points."""


class LossPoint(NamedTuple):
    """A finite loss of a step, and its running average."""

    tokens: int
    raw: float
    smoothed: float


def training_loss(training: Training) -> str | None:
    """Draw the training loss, raw and smoothed, in nats per token."""
    rows = [
        LossPoint(row.tokens, row.loss_nats, row.smoothed)
        for row in training.points
        if row.loss_nats is not None and math.isfinite(row.loss_nats) and row.smoothed is not None
    ]
    return _loss("loss", "Training loss", "nats per token", rows)


def loss_parts(training: Training) -> dict[str, str]:
    """Draw every part of the loss, raw and smoothed; return charts by the part's name."""
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
    """Draw the learning rate, with a line at the start of each phase of the schedule."""
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
    """Draw a dashed line at the start of every phase but the first, and names that fit above."""
    ends = [*(phase.tokens for phase in phases[1:]), last]
    for phase, end in zip(phases, ends, strict=False):
        if phase.tokens:
            axes.axvline(phase.tokens, color=colour("muted"), linewidth=1, dashes=(3, 3))
        if end - phase.tokens >= NAMED_PHASE * last:
            middle = (phase.tokens + end) / 2
            where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
            axes.annotate(phase.name, (middle, 1.0), color=colour("muted"), **where)
