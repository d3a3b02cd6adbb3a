"""Draw task vectors: norms by layer and kind of weight, cosines, and sign conflicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import fixed, percent
from cpt.report.charts.heatmap import draw_scale, draw_shades, label_rows
from cpt.report.charts.labels import Labels
from cpt.report.schema import Vectors
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, short, to_svg

_SHORT = {
    "attention q": "q",
    "attention k": "k",
    "attention v": "v",
    "attention qkv": "qkv",
    "attention o": "o",
    "feed-forward gate": "gate",
    "feed-forward up": "up",
    "feed-forward gate and up": "gate+up",
    "feed-forward down": "down",
}
_MOST_PAIRS = 6
"""Maximum number of pairs in one chart: more curves cannot be distinguished."""

_LONGEST = 12
_CLEAR = 0.55
"""Cosine above which a cell is so dark that its figure is bold."""


def norms_by_layer(found: Vectors, vector: int) -> str | None:
    """Draw the relative norm of one task vector by layer (the first below) and kind of weight."""
    grid, name = found.grid, found.vectors[vector].name
    by_kind = grid.relative[vector]
    greatest = max((value for row in by_kind for value in row if value is not None), default=0.0)
    if greatest <= 0.0:
        return None
    rows = len(grid.layers)
    with canvas(86 + max(140, min(9 * rows, 260)), left=46, top=40) as (figure, axes):
        axes.set(xlim=(0, len(grid.kinds)), ylim=(0, rows))
        axes.grid(False)
        draw_shades(axes, [list(row) for row in zip(*by_kind, strict=True)], greatest)
        label_rows(axes, grid.layers)
        labels = [_SHORT.get(kind, kind) for kind in grid.kinds]
        axes.set_xticks([column + 0.5 for column in range(len(labels))], labels, fontsize=11)
        label_axes(axes, "kind of weight", "layer")
        draw_scale(figure, axes, percent(greatest, 2))
        described = f"Norm over the base's norm, at most {percent(greatest, 2)}."
        return to_svg(figure, f"vector-norms-{vector}", f"Change of {short(name, 40)} by layer", described)


def cosine_matrix(found: Vectors) -> str | None:
    """Draw the cosine of every pair of task vectors; None for a single vector."""
    size = len(found.vectors)
    if size < 2:
        return None
    numbers = {vector.name: place for place, vector in enumerate(found.vectors)}
    with canvas(30 + min(60, 300 // size + 10) * size, left=104, bottom=30, top=4) as (figure, axes):
        axes.set(xlim=(0, size), ylim=(size, 0))
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        for pair in found.pairs:
            for a, b in ((numbers[pair.a], numbers[pair.b]), (numbers[pair.b], numbers[pair.a])):
                value = pair.cosine or 0.0
                role = "domain" if value >= 0 else "limit"
                opacity = 0.75 * min(1.0, abs(value))
                axes.add_patch(Rectangle((b, a), 1, 1, color=colour(role), alpha=opacity, linewidth=0))
                bold = "bold" if abs(value) > _CLEAR else "normal"
                axes.text(b + 0.5, a + 0.5, fixed(pair.cosine), ha="center", va="center", weight=bold)
        for place in range(size):
            axes.text(place + 0.5, place + 0.5, "1", ha="center", va="center", color=colour("muted"))
        names = [short(vector.name, _LONGEST) for vector in found.vectors]
        axes.set_yticks([place + 0.5 for place in range(size)], names)
        axes.set_xticks([place + 0.5 for place in range(size)], [name[: 48 // size + 2] for name in names])
        described = "; ".join(f"{pair.a} and {pair.b}: {fixed(pair.cosine)}" for pair in found.pairs)
        return to_svg(figure, "vector-cosines", "Cosines between task vectors", described)


def cosines_by_layer(found: Vectors) -> str | None:
    """Draw the cosine of pairs by layer, with a band of two standard deviations of random vectors."""

    def words(value: float) -> str:
        return fixed(value, 2)

    spread = [2 * (value or 0.0) for value in (found.layers.random[0] if found.pairs else ())]
    return _by_layer(found, "cosine", "Cosine by layer", words, found.layers.cosine, 0.0, spread)


def conflicts_by_layer(found: Vectors) -> str | None:
    """Draw the share of weights with different signs by layer; one half for random signs."""

    def words(value: float) -> str:
        return percent(value, 0)

    return _by_layer(found, "conflicts", "Sign conflicts by layer", words, found.layers.conflicts, 0.5)


def _by_layer(
    found: Vectors,
    key: str,
    title: str,
    words: Callable[[float], str],
    values: Sequence[Sequence[float | None]],
    random: float,
    spread: Sequence[float] = (),
) -> str | None:
    """Draw a curve for each pair over the layers, with the level of random vectors."""
    layers = len(found.grid.layers)
    curves = {
        f"{short(pair.a, _LONGEST)}, {short(pair.b, _LONGEST)}": [
            (layer, value) for layer, value in zip(found.grid.layers, row, strict=False) if value is not None
        ]
        for pair, row in zip(found.pairs, values, strict=True)
    }
    curves = {name: points for name, points in list(curves.items())[:_MOST_PAIRS] if points}
    if not curves or layers < 2:
        return None
    with canvas(230) as (figure, axes):
        axes.axhline(random, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        if spread:
            low, high = ([random + side * each for each in spread[:layers]] for side in (-1, 1))
            axes.fill_between(found.grid.layers, low, high, color=colour("muted"), alpha=0.2, linewidth=0)
        for place, points in zip(count(1), curves.values(), strict=False):
            axes.plot(*zip(*points, strict=True), color=colour(f"run-{place}"), marker="o", markersize=3.2)
        axes.margins(y=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=ROUND_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
        among = f", {_MOST_PAIRS} of {len(found.pairs)} pairs" if len(found.pairs) > _MOST_PAIRS else ""
        label_axes(axes, f"layer{among}", key if key == "cosine" else "share of weights that both change")
        labels = Labels(axes, [point for points in curves.values() for point in points])
        for place, (name, points) in zip(count(1), curves.items(), strict=False):
            middle = points[len(points) // 2]
            labels.write(name, middle, color=colour(f"run-{place}"), weight="bold")
        described = "; ".join(
            f"{name}: {words(min(y for _, y in points))} to {words(max(y for _, y in points))}"
            for name, points in curves.items()
        )
        return to_svg(figure, f"vector-{key}", title, described)
