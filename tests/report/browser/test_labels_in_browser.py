"""Names in the chart of domain against general text, as a browser sets them: they hide nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from browsing import Visit

from cpt.report import charts
from cpt.report.schema import CurvePoint, Facts, Merge, Probe, TrialPoint

Places = Sequence[tuple[float, float]]

COLLISIONS = """() => {
    const box = (each) => each.getBoundingClientRect();
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    const said = (each) => `${each.closest("section").id}: ${each.textContent || "a marker"}`;
    const names = [...document.querySelectorAll("text")].filter((each) => each.style.fontWeight === "700");
    const markers = [...document.querySelectorAll("use")].filter((each) => box(each).width > 6);
    const others = [...document.querySelectorAll("text"), ...markers];
    return names.flatMap((name) => others.filter((other) => other !== name && meet(box(name), box(other)))
        .map((other) => `${said(name)} on ${said(other)}`));
}"""


def chart(path: Places, final: tuple[float, float], tries: Places = ()) -> str | None:
    """The chart of a run along (gain, rise), whose merged model lies at `final`."""
    domain, general = (
        Probe(
            curve=[CurvePoint(step=n, tokens=n, value=1 + sign * at[axis]) for n, at in enumerate(path)],
            permanent=sign * final[axis],
            measured_by="evaluate",
        )
        for axis, sign in ((0, -1), (1, 1))
    )
    search = [TrialPoint(domain_gain=gain, general_rise=rise) for gain, rise in tries]
    merge = Merge(stage="merge", method="ties", search=search)
    return charts.domain_against_general({"domain": domain, "general": general}, (), merge)


def test_names_cover_neither_markers_nor_each_other(
    visit: Callable[..., Visit], tmp_path: Path, full: Facts
) -> None:
    arc = [(0.0, 0.0), (0.1, 0.02), (0.2, 0.03), (0.28, 0.012), (0.31, 0.006)]
    drawn = {
        "usual": charts.domain_against_general(full.probes, full.watched.gates, full.merge),
        "close": chart(arc, (0.312, 0.0065)),
        "below": chart(arc, (0.31, 0.003)),
        "at-base": chart([*arc[:3], (0.001, 0.0001)], (0.0005, 0.0002)),
        "among-tries": chart(arc, (0.29, 0.004), [(0.2 + 0.02 * n, 0.002 + 0.001 * n) for n in range(6)]),
    }
    page = tmp_path / "charts.html"
    body = "".join(f"<section id={name}>{svg}</section>" for name, svg in drawn.items())
    page.write_text(f"<!doctype html><body style='font: 16px sans-serif; width: 400px'>{body}</body>")
    visited = visit(page)
    assert visited.ask("document.querySelectorAll('use').length") > 20
    assert visited.ask(COLLISIONS) == []
