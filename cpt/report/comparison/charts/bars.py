"""What each run was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt.formatting import compact
from cpt.report.comparison.charts.rings import ring
from cpt.report.comparison.schema import RunRow
from cpt.report.theme import canvas, colour, to_svg


def tokens_by_source(rows: Sequence[RunRow]) -> str | None:
    """Tokens trained by each run, a bar parted by source."""
    shown = [row for row in rows if row.trained]
    if not shown:
        return None
    longest = max(row.trained for row in shown)
    with canvas(8 + 32 * len(shown), left=28, bottom=4, top=4) as (figure, axes):
        axes.set(xlim=(0, longest * 1.2), ylim=(len(shown) - 0.5, -0.5), xticks=[], yticks=[])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        for y, row in enumerate(shown):
            begin = 0
            for source, tokens in row.tokens.items():
                axes.barh(y, tokens, left=begin, height=0.6, color=colour(source))
                begin += tokens
            note: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(compact(begin), (begin, y), xytext=(6, 0), color=colour("muted"), **note)
            ring(axes, row.number, (0, y), offset=(-16, 0))
        described = "; ".join(
            f"{row.name}: " + ", ".join(f"{count:,} {source}" for source, count in row.tokens.items())
            for row in shown
        )
        return to_svg(figure, "tokens", "Tokens trained, by source", described)
