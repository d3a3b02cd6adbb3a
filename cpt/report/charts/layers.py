"""How far each layer moved: a heat map of layers and readings, and bottom against top."""

from __future__ import annotations

import math

from matplotlib.ticker import MaxNLocator

from cpt.formatting import compact, fixed, percent
from cpt.report.charts.shades import draw_scale, draw_shades, label_rows
from cpt.report.schema import LayerUpdates
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg, token_axis

EARLY_RATIO = 1.35
"""Bottom/top ratio that Guo et al. (2024) find exceeded early in continual pretraining."""


def layer_updates(found: LayerUpdates) -> str | None:
    """Relative update of every layer (bottom layer below) at every reading, as shades of one colour."""
    updates = [value for row in found.updates for value in row if value is not None and math.isfinite(value)]
    greatest = max(updates, default=0.0)
    if greatest <= 0.0 or len(found.tokens) < 2:
        return None
    rows, columns = len(found.layers), len(found.tokens)
    with canvas(86 + max(140, min(9 * rows, 260)), left=46, top=40) as (figure, axes):
        axes.set(xlim=(0, columns), ylim=(0, rows))
        axes.grid(False)
        draw_shades(axes, found.updates, greatest)
        label_rows(axes, found.layers)
        every = max(1, math.ceil(columns / 6))
        at = list(range(0, columns, every))
        axes.set_xticks([column + 0.5 for column in at], [compact(found.tokens[column]) for column in at])
        label_axes(axes, "tokens trained, at each reading", "layer")
        draw_scale(figure, axes, _share(greatest))
        last = [row[-1] for row in found.updates]
        ends = f"layer {found.layers[0]} {_share(last[0])}, layer {found.layers[-1]} {_share(last[-1])}"
        return to_svg(figure, "layers", "Relative update by layer", f"At the last reading: {ends}.")


def bottom_top(found: LayerUpdates) -> str | None:
    """Mean update of the bottom layers over that of the top ones, against tokens."""
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


def _share(value: float | None) -> str:
    return percent(value, 2)
