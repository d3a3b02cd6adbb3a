"""Draw a mixture law: change of the losses against the share of replay, as fitted and as measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import compact, percent, signed
from cpt.laws import Law, Row
from cpt.laws.fit import SEVERAL_SIZES
from cpt.laws.predict import Setting
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg

_NEAR = 1.1
"""Ratio of tokens up to which a run's last reading is drawn beside the curve."""


def losses_by_replay(law: Law, rows: Sequence[Row]) -> str:
    """Draw each text's curve with its 95% band, and the last reading of each run of the same length.

    It is drawn for the median length of the runs, for the smallest model and the first domain of the law.
    Changes are since before training where that loss is known, else the losses themselves are drawn.
    """
    domain = next(iter(law.domains), None)
    setting, size = Setting.of(law, domain), law.range.parameters[0]
    ends = [
        row
        for row in _last(rows)
        if row.parameters < SEVERAL_SIZES * size and (domain is None or row.domain == domain)
    ]
    tokens = float(np.median([row.tokens for row in ends]))
    replay = np.linspace(1 - law.range.share[1], 1 - law.range.share[0], 200)
    starts = {text: setting.start(text, size) for text in law.texts}
    from_start = all(start is not None for start in starts.values())
    with canvas(260, left=56) as (figure, axes):
        for text, found in law.texts.items():
            before = (starts[text] or 0.0) if from_start else 0.0
            if found.draws:
                drawn = setting.losses(text, size, tokens, 1 - replay, found.drawn) - before
                low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
                axes.fill_between(replay, low, high, color=colour(text), alpha=0.18, linewidth=0)
            curve = setting.losses(text, size, tokens, 1 - replay) - before
            axes.plot(replay, curve, color=colour(text))
            axes.annotate(
                text,
                (replay[0], curve[0]),
                xytext=(10, 9),
                textcoords="offset points",
                color=colour(text),
            )
            near = [row for row in ends if max(row.tokens, tokens) <= _NEAR * min(row.tokens, tokens)]
            points = [
                (1 - row.share, value - before) for row in near if (value := row.loss(text)) is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=colour(text), markersize=5)
        axes.margins(y=0.15)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share, 0)))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        if from_start:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value)))
        what = "change in bits per byte" if from_start else "bits per byte"
        label_axes(axes, f"replay, of {compact(tokens)} tokens", what)
        described = f"The law of {len(law.runs)} runs, at {compact(tokens)} tokens."
        return to_svg(figure, "law", "Losses by share of replay", described)


def _last(rows: Sequence[Row]) -> list[Row]:
    """Return the last reading of each run."""
    last: dict[str, Row] = {}
    for row in rows:
        if row.tokens and (row.run not in last or row.tokens > last[row.run].tokens):
            last[row.run] = row
    return list(last.values())
