"""Draw the scores of the documents that were selected from, selected ones against the others."""

from __future__ import annotations

import numpy as np

from cpt.formatting import count, percent
from cpt.report.schema import DocumentSelection
from cpt.report.theme import canvas, colour, label_axes, to_svg

_HEIGHT = 190


def selection_scores(selection: DocumentSelection) -> str | None:
    """Draw the histogram of a selection's scores; the bars of selected documents stand on the axis."""
    edges = np.array(selection.histogram.edges)
    selected = np.array(selection.histogram.selected)
    others = np.array(selection.histogram.others)
    if not len(edges) or not (selected.sum() + others.sum()):
        return None
    total = int(selected.sum() + others.sum())
    with canvas(_HEIGHT) as (figure, axes):
        widths = np.diff(edges)
        for heights, below, role in ((selected, 0, "domain"), (others, selected, "muted")):
            axes.bar(edges[:-1], heights, widths * 0.92, below, align="edge", color=colour(role))
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, max((selected + others).max() * 1.1, 1)))
        axes.locator_params(axis="y", nbins=4, integer=True)
        axes.locator_params(axis="x", nbins=5)
        label_axes(axes, selection.measure, "documents")
        share = percent(float(selected.sum()) / total, 0)
        words = (
            f"{count(int(selected.sum()))} of {count(total)} documents ({share}) are selected; their scores "
            f"are between {edges[0]:.3g} and {edges[-1]:.3g}, the ends of the chart"
        )
        return to_svg(figure, "selection", "Documents by score, selected and others", words)
