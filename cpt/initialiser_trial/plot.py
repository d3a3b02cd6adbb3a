"""The comparison as a picture: bits per byte against steps, one line per method."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from cpt.initialiser_trial.methods import UNCHANGED, Comparison

_SHOWN_TIMES_BEST = 1.6
"""Lines that start higher than this many times the best start are cut off by the axis."""


def plot(comparison: Comparison, file: Path) -> None:
    """Write the picture; the format follows the file's suffix (.svg, .png, .pdf)."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = [name for name in ("domain", "general") if any(getattr(row, name) for row in comparison.rows)]
    colours = mpl.colormaps["tab20"]
    order = [row.method for row in comparison.ranked()]
    for axes, source in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        highest = []
        for row in comparison.rows:
            curve = getattr(row, source)
            if not curve:
                continue
            plain = row.method == UNCHANGED
            axes.plot(
                list(curve),
                list(curve.values()),
                marker="o",
                label=row.method,
                color="black" if plain else colours(order.index(row.method) % 20),
                linestyle="--" if plain else "-",
            )
            highest.append(max(curve.values()))
        axes.set_ylim(top=min(max(highest), _SHOWN_TIMES_BEST * min(highest)) * 1.02)
        axes.set_title(f"{source} text, held out")
        axes.set_xlabel("training steps")
        axes.set_ylabel("bits per byte")
        axes.grid(alpha=0.3)
    handles = {line.get_label(): line for line in figure.axes[0].get_lines()}
    names = [name for name in [UNCHANGED, *order] if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside right center", frameon=False)
    figure.savefig(file)
