"""Draw domain gain against general rise: the path of a run, and the trials of a weight search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import Z_95, signed
from cpt.report.charts.labels import Labels
from cpt.report.curves import changes
from cpt.report.schema import CurvePoint, Gate, Merge, Probe
from cpt.report.schema.artifacts import Trial, WeightSearch
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, to_svg

DOTS = 80
"""Maximum number of readings that are drawn as dots."""


class Point(NamedTuple):
    """A model in the chart: gain on domain text and rise on general text, in bits per byte."""

    gain: float
    rise: float


class Marker(NamedTuple):
    """A named model with its marker."""

    name: str
    at: Point
    marker: str
    filled: bool = True


def domain_against_general(
    probes: Mapping[str, Probe], gates: Sequence[Gate] = (), merge: Merge | None = None
) -> str | None:
    """Draw gain on domain text (right is better) against rise on general text (up is worse) over the run.

    The final model is a point of its own if evaluate measured it. Trials of a merge search are small rings.

    Returns:
        None unless the two probes were read together at least twice.
    """
    domain, general = probes.get("domain"), probes.get("general")
    path = run_path(domain.curve, general.curve) if domain and general else []
    if len(path) < 2 or domain is None or general is None:
        return None
    tries = [Point(point.domain_gain, point.general_rise) for point in merge.search] if merge else []
    marked = [Marker("base", path[0], "o", filled=False), Marker("trained", path[-1], "o")]
    if (final := measured_apart(domain, general)) is not None:
        marked.append(Marker("merged" if merge else "final", final, "D"))
    limits = [gate.allowed for gate in gates if gate.limits_change_of("general") and gate.allowed is not None]
    rises = [place.rise for place in (*path, *tries, *(each.at for each in marked))]
    limits = [limit for limit in limits if limit <= 3 * max(*map(abs, rises), 1e-9)]
    gains = [place.gain for place in (*path, *tries, *(each.at for each in marked))]
    with canvas(300, left=52) as (figure, axes):
        axes.set(xlim=_range(gains, 0.08, 0.2), ylim=_range([*rises, *limits, 0.0], 0.18, 0.18))
        axes.grid(axis="x", visible=True)
        axes.axhline(0.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        _draw_limit(axes, limits)
        axes.plot(*zip(*path, strict=True), color=colour("domain"))
        if 2 < len(path) <= DOTS:
            axes.plot(*zip(*path[1:-1], strict=True), "o", color=colour("domain"), markersize=3.2)
        if tries:
            axes.plot(
                *zip(*tries, strict=True), "o", color=colour("muted"), markerfacecolor="none", markersize=6
            )
        labels = Labels(axes, path, [*tries, *(each.at for each in marked)])
        for each in marked:
            face = colour("domain") if each.filled else colour("card")
            axes.plot(*each.at, each.marker, color=colour("domain"), mfc=face, mew=2, markersize=8, zorder=4)
        for each in marked:
            labels.write(each.name, each.at, color=colour("ink"), weight="bold")
        for limit in limits:
            labels.along(f"limit {signed(limit)}", limit, color=colour("limit"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _short_signed(value)))
        label_axes(axes, "gain on domain text, bits per byte", "rise on general text, bits per byte")
        described = "; ".join(
            f"{each.name}: domain gain {signed(each.at.gain)}, general rise {signed(each.at.rise)}"
            for each in marked
        )
        return to_svg(figure, "path", "Domain against general text", f"{described}.")


def run_path(domain: Sequence[CurvePoint], general: Sequence[CurvePoint]) -> list[Point]:
    """Return gain and rise at every step with readings of both probes; paired changes if known."""
    gains, rises = changes(domain), changes(general)
    return [Point(-gains[step], rises[step]) for step in sorted(gains.keys() & rises.keys())]


def measured_apart(domain: Probe, general: Probe) -> Point | None:
    """Return the final model as measured by evaluate on its held-out text; None without evaluate."""
    if "training" in (domain.measured_by, general.measured_by):
        return None
    if domain.permanent is None or general.permanent is None:
        return None
    return Point(-domain.permanent, general.permanent)


def _draw_limit(axes: Axes, limits: Sequence[float]) -> None:
    """Draw a line at each limit, and the area beyond the tightest one."""
    _, high = axes.get_ylim()
    for limit in limits:
        axes.axhline(limit, color=colour("limit"), linewidth=1.5)
    if limits:
        axes.axhspan(min(limits), high, color=colour("limit"), alpha=0.07, linewidth=0)


def _range(values: Sequence[float], below: float, above: float) -> tuple[float, float]:
    """Return the limits of an axis with margins at both sides, as shares of the data's range."""
    low, high = min(values), max(values)
    span = (high - low) or 0.05
    return low - below * span, high + above * span


def _short_signed(value: float) -> str:
    text = signed(value).rstrip("0").rstrip(".")
    return text if text.strip("+\N{MINUS SIGN}") else "0"


def tried_merges(found: WeightSearch) -> str:
    """Draw the trials of a search: Pareto front as a line, chosen trial as a diamond, base at 0."""
    points = [_point(each) for each in found.search_points]
    front = sorted(_point(each) for each in found.search_points if each.front)
    limits = [gate.allowed for gate in found.gates if gate.probe == "general"]
    gains, rises = zip(*points, (0.0, 0.0), strict=True)
    limits = [limit for limit in limits if limit <= 3 * max(*map(abs, rises), 1e-9)]
    with canvas(300, left=52) as (figure, axes):
        axes.set(xlim=_range(gains, 0.08, 0.2), ylim=_range((*rises, *limits), 0.18, 0.18))
        axes.grid(axis="x", visible=True)
        axes.axhline(0.0, color=colour("muted"), linewidth=1.25, dashes=(4, 3))
        for limit in limits:
            axes.axhline(limit, color=colour("limit"), linewidth=1.5)
            axes.axhspan(limit, axes.get_ylim()[1], color=colour("limit"), alpha=0.07, linewidth=0)
        for each in found.search_points:
            error = each.changes["general"].error
            if error is not None:
                gain, rise = _point(each)
                span = (rise - Z_95 * error, rise + Z_95 * error)
                axes.plot((gain, gain), span, color=colour("rule"), linewidth=1.5, zorder=1.5)
        axes.plot(*zip(*front, strict=True), color=colour("domain"))
        ring: dict[str, Any] = {"color": colour("muted"), "markerfacecolor": colour("card"), "markersize": 6}
        axes.plot(*zip(*points, strict=True), "o", **ring)
        axes.plot(*zip(*front, strict=True), "o", color=colour("domain"), markersize=6)
        chosen = _point(found.chosen)
        axes.plot(0, 0, "o", color=colour("domain"), mfc=colour("card"), mew=2, markersize=8, zorder=4)
        axes.plot(*chosen, "D", color=colour("domain"), mew=2, markersize=8, zorder=4)
        labels = Labels(axes, front, [*points, (0.0, 0.0)])
        labels.write("chosen", chosen, color=colour("ink"), weight="bold")
        labels.write("base", (0.0, 0.0), color=colour("ink"), weight="bold")
        for limit in limits:
            labels.along(f"limit {signed(limit)}", limit, color=colour("limit"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.4g}" if value else "0"))
        label_axes(axes, "gain on domain text, bits per byte", "rise on general text, bits per byte")
        described = (
            f"{len(points)} merges, {len(front)} on the front; chosen: domain gain {signed(chosen[0])}, "
            f"general rise {signed(chosen[1])}."
        )
        return to_svg(figure, "tries", "Merges that were tried", described)


def _point(trial: Trial) -> Point:
    return Point(trial.domain_gain, trial.general_rise)
