"""Plain curves against tokens: drift from the base, norms of new tokens, tokens by source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cpt.formatting import Z_95, compact, fixed, percent, small
from cpt.report.charts.labels import Labels, Placement
from cpt.report.schema import CurvePoint, Gate, NewTokens, SourceTokens
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, short, to_svg, token_axis

NAMED_SHARE = 0.08
"""A source of a smaller share of the last batches has no room for its name."""


def drift(curve: Sequence[CurvePoint], gates: Sequence[Gate] = ()) -> str | None:
    """KL from the base with its 95% interval and its budget; None without two readings."""
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
            if gate.unit == "nats per token" and gate.limit is not None and gate.limit < 3 * max(values):
                axes.axhline(gate.limit, color=colour("budget"), linewidth=1.5)
                where: dict[str, Any] = {
                    "xytext": (0, 5),
                    "textcoords": "offset points",
                    "color": colour("budget"),
                }
                axes.annotate(f"budget {fixed(gate.limit)}", (0, gate.limit), **where)
        token_axis(axes, tokens[-1])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "tokens trained", "nats per token")
        described = f"At the end {fixed(values[-1])} nats per token, at most {fixed(max(values))}."
        return to_svg(figure, "drift", "Drift from the base", described)


def early_end(curve: Sequence[CurvePoint]) -> str | None:
    """Probability of an end in mid-sentence, on a logarithmic axis; None without two readings."""
    rows = [(point.tokens, point.value) for point in curve if point.value and math.isfinite(point.value)]
    if len(rows) < 2:
        return None
    tokens, values = zip(*rows, strict=True)
    with canvas(230) as (figure, axes):
        axes.plot(tokens, values, color=colour("other"))
        axes.axhline(values[0], color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.set_yscale("log")
        # within one power of ten the default has no tick at all
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: small(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.15)
        token_axis(axes, tokens[-1])
        label_axes(axes, "tokens trained", "probability of an end")
        described = f"From {small(values[0])} to {small(values[-1])}, at most {small(max(values))}."
        return to_svg(figure, "early-end", "Ends in mid-sentence", described)


def new_token_norms(points: Sequence[NewTokens]) -> str | None:
    """Mean norm of the new tokens' rows over that of the old ones', against tokens trained."""
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
    """Share of every source in the tokens trained since the point before, stacked to 100%."""
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
    """Each source's share of the tokens between neighbouring points: [points - 1], summing to 1."""
    trained = [
        sum(tokens[i + 1] - tokens[i] for tokens in found.sources.values()) or 1
        for i in range(len(found.tokens) - 1)
    ]
    return {
        name: [(tokens[i + 1] - tokens[i]) / whole for i, whole in enumerate(trained)]
        for name, tokens in found.sources.items()
    }
