"""How far each layer moved: a heat map of layers and readings, and bottom against top."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from cpt.report.schema import LayerUpdates
from cpt.report.theme import ROUND_STEPS, UNIT, canvas, colour, label_axes, to_svg, token_axis
from cpt.report.wording import compact, number, percent

SHADES = 12
"""Steps of the heat map's colour."""

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
        for shade, cells in enumerate(_cells_by_shade(found, greatest)):
            if cells:
                opacity = (shade + 0.5) / SHADES
                axes.add_patch(PathPatch(_squares(cells), color=colour("domain"), alpha=opacity, linewidth=0))
        _ticks_of_layers(axes, found)
        every = max(1, math.ceil(columns / 6))
        at = list(range(0, columns, every))
        axes.set_xticks([column + 0.5 for column in at], [compact(found.tokens[column]) for column in at])
        label_axes(axes, "tokens trained, at each reading", "layer")
        _draw_scale(figure, axes, greatest)
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
        described = (
            f"From {number(ratios[0], 2)} to {number(ratios[-1], 2)}, greatest {number(max(ratios), 2)}."
        )
        return to_svg(figure, "bottom-top", "Bottom layers against top layers", described)


def _cells_by_shade(found: LayerUpdates, greatest: float) -> list[list[tuple[int, int]]]:
    """(column, row) of the cells of every shade, the palest first; cells without a value have none."""
    cells: list[list[tuple[int, int]]] = [[] for _ in range(SHADES)]
    for row, updates in enumerate(found.updates):
        for column, value in enumerate(updates):
            if value is not None and math.isfinite(value):
                cells[min(SHADES - 1, int(SHADES * value / greatest))].append((column, row))
    return cells


def _squares(cells: list[tuple[int, int]]) -> Path:
    """One path of all cells; cells beside each other in a row are one rectangle."""
    return Path.make_compound_path(
        *(
            Path([(x, y), (end, y), (end, y + 1), (x, y + 1), (x, y)], closed=True)
            for x, end, y in _runs(cells)
        )
    )


def _runs(cells: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """First column, column after the last, and row of every run of neighbours."""
    cells = sorted(cells, key=lambda cell: (cell[1], cell[0]))
    first = 0
    for index in range(1, len(cells) + 1):
        column, row = cells[index - 1]
        if index == len(cells) or cells[index] != (column + 1, row):
            yield cells[first][0], column + 1, row
            first = index


def _ticks_of_layers(axes: Axes, found: LayerUpdates) -> None:
    every = max(1, math.ceil(len(found.layers) / 8))
    at = list(range(0, len(found.layers), every))
    axes.set_yticks([row + 0.5 for row in at], [str(found.layers[row]) for row in at])


def _draw_scale(figure: Figure, axes: Axes, greatest: float) -> None:
    """The shades above the map, from none to the greatest update."""
    left, width, at = 0.52, 0.3, 1.0
    for shade in range(SHADES):
        corner = (left + width * shade / SHADES, at)
        axes.add_patch(
            Rectangle(
                corner,
                width / SHADES,
                10 / axes.get_window_extent().height,
                transform=axes.transAxes + ScaledTranslation(0, 13 / UNIT, figure.dpi_scale_trans),
                color=colour("domain"),
                alpha=(shade + 0.5) / SHADES,
                linewidth=0,
                clip_on=False,
            )
        )
    beside: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "color": colour("muted"),
    }
    axes.annotate("0", (left, at), xytext=(-5, 13), ha="right", **beside)
    axes.annotate(_share(greatest), (left + width, at), xytext=(5, 13), ha="left", **beside)


def _share(value: float | None) -> str:
    return percent(value, 2)
