"""The page of a search for merge weights."""

from typing import Any

import pytest

from cpt.report.charts.scatter import tried_merges
from cpt.report.merge_pages import render_search
from cpt.report.schema.artifacts import WeightSearch
from cpt.report.summary_text import search_finding


def point(weight: float, gain: float, rise: float, **more: Any) -> dict[str, Any]:
    changes = {"domain": {"change": -gain, "error": 0.01}, "general": {"change": rise, "error": None}}
    facts = {"domain_gain": gain, "general_rise": rise, "changes": changes, "front": True, "chosen": False}
    return {"values": {"weight of law": weight}, "by": "grid", **facts, **more}


@pytest.fixture
def found() -> WeightSearch:
    points = [point(0.5, 0.1, 0.01), point(1.0, 0.2, 0.03, chosen=True), point(0.2, 0.05, 0.04, front=False)]
    gate = {
        "budget": "general <= +0.02",
        "probe": "general",
        "limit": 0.02,
        "verdict": "broken",
        "why": "+0.03",
    }
    return WeightSearch.model_validate(
        {
            "method": "ties",
            "models": ["<b>law</b>"],
            "why": "the one that breaks it least",
            "holds": False,
            "search_points": points,
            "gates": [gate],
        }
    )


def test_every_point_is_in_the_table_and_names_are_escaped(found: WeightSearch) -> None:
    page = render_search(found, "2026-03-01T09:22:00+00:00")
    assert page.count("<tr>") == 4
    assert "<b>law" not in page
    assert "&lt;b&gt;law" in page
    assert "1 March 2026" in page
    assert "broken" in page


def test_the_finding_names_weight_reason_and_changes(found: WeightSearch) -> None:
    words = search_finding(found)
    assert words.startswith("weight of law 1: the one that breaks it least")
    assert "general +0.0300" in words


def test_a_number_at_its_bound_is_told(found: WeightSearch) -> None:
    edge = {"name": "weight of <b>", "value": 1.0, "bound": "upper", "says": "weight of <b> is at 1"}
    with_edge = WeightSearch.model_validate(found.model_dump() | {"at_bounds": [edge]})
    assert "<p>weight of &lt;b&gt; is at 1.</p>" in render_search(with_edge, "2026-03-01T09:22:00+00:00")


def test_the_chart_describes_itself(found: WeightSearch) -> None:
    svg = tried_merges(found)
    assert "3 merges, 2 on the front" in svg
    assert "budget +0.020" in svg
    assert "chosen" in svg


def test_a_single_point_that_changes_nothing_is_drawn() -> None:
    only = WeightSearch(
        method="ties", models=["law"], why="", holds=True, search_points=[point(1.0, 0.0, 0.0, chosen=True)]
    )
    assert "<svg" in tried_merges(only)
