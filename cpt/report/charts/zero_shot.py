"""Draw how well the model reads by the rows that a hypernetwork predicts, during its training."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import compact, fixed
from cpt.report.charts.labels import Labels
from cpt.report.schema import HypernetworkTraining
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, safe_key, short, to_svg

_OWN = "source"
"""Name of the model's own tokenizer among the readings."""

_COLOURS, _NAME = 8, 24


def zero_shot(training: HypernetworkTraining, text: str) -> str | None:
    """Draw bits per byte of one text by step, for each tokenizer; None without two readings of one."""
    curves = {
        tokenizer: sorted(found.items())
        for tokenizer, found in training.curves(text).items()
        if tokenizer != _OWN and len(found) > 1
    }
    if not curves:
        return None
    own = next(iter(training.curves(text).get(_OWN, {}).values()), None)
    with canvas(240) as (figure, axes):
        for place, points in enumerate(curves.values()):
            role = f"run-{place % _COLOURS + 1}"
            axes.plot(*zip(*points, strict=True), color=colour(role), marker="o", markersize=3)
        if own is not None:
            axes.axhline(own, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        axes.margins(x=0.02, y=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: compact(step)))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        label_axes(axes, "steps", "bits per byte")
        labels = Labels(axes, [point for points in curves.values() for point in points])
        if own is not None:
            labels.write(f"own tokenizer {fixed(own)}", (0, own), color=colour("muted"))
        for place, (tokenizer, points) in enumerate(curves.items()):
            role = f"run-{place % _COLOURS + 1}"
            words = f"{short(tokenizer, _NAME)} {fixed(points[-1][1])}"
            labels.write(words, points[-1], color=colour(role), weight="bold")
        ends = [f"{name}: {fixed(each[0][1])} to {fixed(each[-1][1])}" for name, each in curves.items()]
        ends += [f"own tokenizer: {fixed(own)}"] if own is not None else []
        return to_svg(figure, f"zero-shot-{safe_key(text)}", f"Zero-shot, {text}", f"{'; '.join(ends)}.")
