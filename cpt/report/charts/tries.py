"""What a search for merge weights tried: gain on domain text against rise on general text."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import Z_95, signed
from cpt.report.charts.labels import Labels
from cpt.report.schema.search import Trial, WeightSearch
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg


def tried_merges(found: WeightSearch) -> str:
    """Every merge that was tried, the front as a line, the chosen one as a diamond, the base at 0."""
    points = [_place(each) for each in found.search_points]
    front = sorted(_place(each) for each in found.search_points if each.front)
    limits = [gate.limit for gate in found.gates if gate.probe == "general"]
    gains, rises = zip(*points, (0.0, 0.0), strict=True)
    limits = [limit for limit in limits if limit <= 3 * max(*map(abs, rises), 1e-9)]
    with canvas(300, left=52) as (figure, axes):
        axes.set(xlim=_range(gains, 0.08, 0.2), ylim=_range((*rises, *limits), 0.18, 0.18))
        axes.grid(axis="x", visible=True)
        axes.axhline(0.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        for limit in limits:
            axes.axhline(limit, color=colour("budget"), linewidth=1.5)
            axes.axhspan(limit, axes.get_ylim()[1], color=colour("budget"), alpha=0.07, linewidth=0)
        for each in found.search_points:
            error = each.changes["general"].error
            if error is not None:
                gain, rise = _place(each)
                span = (rise - Z_95 * error, rise + Z_95 * error)
                axes.plot((gain, gain), span, color=colour("rule"), linewidth=1.5, zorder=1.5)
        axes.plot(*zip(*front, strict=True), color=colour("domain"))
        ring: dict[str, Any] = {"color": colour("muted"), "markerfacecolor": colour("card"), "markersize": 6}
        axes.plot(*zip(*points, strict=True), "o", **ring)
        axes.plot(*zip(*front, strict=True), "o", color=colour("domain"), markersize=6)
        chosen = _place(found.chosen)
        axes.plot(0, 0, "o", color=colour("domain"), mfc=colour("card"), mew=2, markersize=8, zorder=4)
        axes.plot(*chosen, "D", color=colour("domain"), mew=2, markersize=8, zorder=4)
        labels = Labels(axes, front, [*points, (0.0, 0.0)])
        labels.write("chosen", chosen, color=colour("ink"), weight="bold")
        labels.write("base", (0.0, 0.0), color=colour("ink"), weight="bold")
        for limit in limits:
            labels.along(f"budget {signed(limit)}", limit, color=colour("budget"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.4g}" if value else "0"))
        label_axes(axes, "gain on domain text, bits per byte", "rise on general text, bits per byte")
        described = (
            f"{len(points)} merges, {len(front)} on the front; chosen: domain gain {signed(chosen[0])}, "
            f"general rise {signed(chosen[1])}."
        )
        return to_svg(figure, "tries", "Merges that were tried", described)


def _place(point: Trial) -> tuple[float, float]:
    return point.domain_gain, point.general_rise


def _range(values: tuple[float, ...], below: float, above: float) -> tuple[float, float]:
    """Limits of an axis with room at both sides, as shares of what is drawn."""
    low, high = min(values), max(values)
    span = (high - low) or 0.05
    return low - below * span, high + above * span
