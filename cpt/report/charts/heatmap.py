"""Draw heat maps: values as shades of one colour with a scale, and relative updates by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation

from cpt.formatting import compact, percent
from cpt.report.schema import LayerUpdates
from cpt.report.theme import UNIT, canvas, colour, label_axes, to_svg

SHADES = 12
"""Number of shades of a heat map."""

Values = Sequence[Sequence[float | None]]


def draw_shades(axes: Axes, values: Values, greatest: float, role: str = "domain") -> None:
    """Fill a map of unit squares: row 0 at the bottom, 0 palest, `greatest` darkest, None empty.

    Args:
        axes: Axes of the map.
        values: Values by [rows][columns].
        greatest: Value of the darkest shade.
        role: Role of the map's colour.
    """
    for shade, cells in enumerate(_cells_by_shade(values, greatest)):
        if cells:
            opacity = (shade + 0.5) / SHADES
            axes.add_patch(PathPatch(_squares(cells), color=colour(role), alpha=opacity, linewidth=0))


def label_rows(axes: Axes, names: Sequence[object], most: int = 8) -> None:
    """Write row names beside the map: about `most` of them, evenly spaced."""
    every = max(1, math.ceil(len(names) / most))
    at = list(range(0, len(names), every))
    axes.set_yticks([row + 0.5 for row in at], [str(names[row]) for row in at])


def draw_scale(figure: Figure, axes: Axes, greatest: str) -> None:
    """Draw the scale of shades above the map, from 0 to the greatest value."""
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
    axes.annotate(greatest, (left + width, at), xytext=(5, 13), ha="left", **beside)


def _cells_by_shade(values: Values, greatest: float) -> list[list[tuple[int, int]]]:
    """Return (column, row) of the cells of every shade, the palest first, without empty cells."""
    cells: list[list[tuple[int, int]]] = [[] for _ in range(SHADES)]
    for row, columns in enumerate(values):
        for column, value in enumerate(columns):
            if value is not None and math.isfinite(value):
                cells[min(SHADES - 1, int(SHADES * value / greatest))].append((column, row))
    return cells


def _squares(cells: list[tuple[int, int]]) -> Path:
    """Return one path of all cells; neighbours in a row form one rectangle, which keeps the SVG small."""
    return Path.make_compound_path(
        *(
            Path([(x, y), (end, y), (end, y + 1), (x, y + 1), (x, y)], closed=True)
            for x, end, y in _runs(cells)
        )
    )


def _runs(cells: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield first column, column after the last, and row of every run of neighbours."""
    cells = sorted(cells, key=lambda cell: (cell[1], cell[0]))
    first = 0
    for index in range(1, len(cells) + 1):
        column, row = cells[index - 1]
        if index == len(cells) or cells[index] != (column + 1, row):
            yield cells[first][0], column + 1, row
            first = index


def layer_updates(found: LayerUpdates) -> str | None:
    """Draw the relative update of every layer at every reading, the bottom layer below."""
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


def _share(value: float | None) -> str:
    return percent(value, 2)
