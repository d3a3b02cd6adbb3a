"""Charts of several runs: what they say, that rings keep apart, that they fit into any page."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from made_runs import FOUR, SETTINGS, TEXTS, a_run

from cpt.report.comparison import charts
from cpt.report.comparison.charts import rises, role, spread
from cpt.report.comparison.facts import compare
from cpt.report.comparison.page import draw
from cpt.report.comparison.schema import Comparison
from cpt.report.schema import Interval
from cpt.report.theme import PALETTE


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(FOUR, SETTINGS, "2026-03-01")


def words(svg: str | None) -> list[str]:
    assert svg is not None
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def description(svg: str | None) -> str:
    assert svg is not None
    return ET.fromstring(svg).findtext("desc") or ""


def test_the_trade_off_shows_every_run_and_says_where_it_ends(comparison: Comparison) -> None:
    svg = charts.trade_off(comparison.runs, comparison.front)
    assert {"1", "2", "3", "4"} <= set(words(svg))
    assert "replay-0: domain −0.310, general +0.090" in description(svg)
    assert description(svg).endswith("on the front: replay-0, replay-25, replay-50")


def test_a_run_on_other_text_is_not_in_the_trade_off() -> None:
    stranger = a_run("stranger", -0.9, 0.0, texts={**TEXTS, "domain": "ab" * 32})
    found = compare([*FOUR, stranger], SETTINGS, "")
    assert "stranger" not in description(charts.trade_off(found.runs, found.front))
    assert rises(found.runs[4].probes["domain"]) == []
    assert charts.trade_off(found.runs[4:], []) is None


def test_curves_lie_above_one_common_start(comparison: Comparison) -> None:
    general = comparison.runs[0].probes["general"]
    assert rises(general)[0] == (0, 0.0)
    assert rises(general)[-1][1] == pytest.approx(0.0892, abs=1e-3)
    moved = general.model_copy(update={"offset": 0.25})
    assert rises(moved)[0] == (0, 0.25)


def test_curves_are_described_by_their_extremes() -> None:
    curves = [charts.Curve(3, "slow", [(0, 0.0), (10, 0.4), (20, 0.1)]), charts.Curve(4, "none", [])]
    svg = charts.curve_chart("x", "X", "bits", curves, lambda rise: f"{rise:.1f}")
    assert description(svg) == "slow: between 0.0 and 0.4, at the end 0.1"
    assert charts.curve_chart("x", "X", "bits", curves[1:], str) is None


def test_tokens_are_parted_by_source(comparison: Comparison) -> None:
    svg = charts.tokens_by_source(comparison.runs)
    assert "replay-50: 61,440 domain, 61,440 replay" in description(svg)
    assert words(svg).count("123k") == 4
    assert charts.tokens_by_source([run.model_copy(update={"tokens": {}}) for run in comparison.runs]) is None


def test_intervals_need_something_to_show() -> None:
    lines = [
        charts.Line(1, "a", Interval(value=0.1)),
        charts.Line(2, "b", Interval(value=0.2, low=0.1, high=0.3)),
    ]
    assert description(charts.intervals("k", "T", "axis", lines, str)) == "a: 0.1; b: 0.2"
    assert charts.intervals("k", "T", "axis", [], str) is None


def test_spread_keeps_order_and_distance_and_moves_as_little_as_it_can() -> None:
    assert spread([0.0, 100.0], 10) == [0.0, 100.0]
    assert spread([5.0, 5.0], 10) == [0.0, 10.0]
    assert spread([1.0, 0.0, 50.0], 10) == pytest.approx([5.5, -4.5, 50.0])
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = list(rng.uniform(0, 40, 8))
        placed = spread(wanted, 6)
        ranked = [placed[i] for i in np.argsort(wanted, kind="stable")]
        assert all(b - a >= 6 - 1e-9 for a, b in pairwise(ranked))
        assert np.mean(placed) == pytest.approx(np.mean(wanted))


def test_colours_come_again_with_other_dashes() -> None:
    assert role(9) == role(1) == "run-1"
    twelve = [a_run(f"r{i}", -0.3 + i / 100, i / 50) for i in range(12)]
    found = compare(twelve, [], "")
    svg = charts.trade_off(found.runs, found.front)
    assert svg is not None
    assert "stroke-dasharray" in svg
    assert "12" in words(svg)


def test_charts_follow_the_page_and_say_what_they_show(comparison: Comparison) -> None:
    own_colours = [shade.light for shade in PALETTE.values()]
    drawn = [svg for section in draw(comparison).values() for svg in section.values()]
    assert len(drawn) >= 7
    for svg in drawn:
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        desc = root.find("desc")
        assert desc is not None
        assert desc.text
        assert desc.get("id") == root.get("aria-describedby")
        assert not any(colour in svg for colour in own_colours)


def test_same_facts_same_bytes(comparison: Comparison) -> None:
    assert draw(comparison) == draw(comparison)
