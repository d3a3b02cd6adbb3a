"""Pages of `cpt merge`: a search for merge weights, and task vectors, which the run report shows as well."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from typing import Any

import pytest
from medical_run import medical_run
from test_page import HOSTILE, Outline
from vector_facts import analysis

from cpt.report.charts.scatter import tried_merges
from cpt.report.facts import RunRecord, gather
from cpt.report.merge_pages import draw_vectors, render_search, render_vectors
from cpt.report.page import render, sections
from cpt.report.schema import Vectors, WeightSearch
from cpt.report.summary_text import search_finding, vectors_finding


def point(weight: float, gain: float, rise: float, **more: Any) -> dict[str, Any]:
    changes = {"domain": {"change": -gain, "error": 0.01}, "general": {"change": rise, "error": None}}
    facts = {"domain_gain": gain, "general_rise": rise, "changes": changes, "front": True, "chosen": False}
    return {"values": {"weight of law": weight}, "by": "grid", **facts, **more}


@pytest.fixture
def found() -> WeightSearch:
    points = [point(0.5, 0.1, 0.01), point(1.0, 0.2, 0.03, chosen=True), point(0.2, 0.05, 0.04, front=False)]
    gate = {
        "limit": "general <= +0.02",
        "probe": "general",
        "allowed": 0.02,
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
    assert "limit +0.020" in svg
    assert "chosen" in svg


def test_a_single_point_that_changes_nothing_is_drawn() -> None:
    only = WeightSearch(
        method="ties", models=["law"], why="", holds=True, search_points=[point(1.0, 0.0, 0.0, chosen=True)]
    )
    assert "<svg" in tried_merges(only)


def vectors(*names: str) -> Vectors:
    return Vectors.model_validate(analysis(*names))


def vectors_page(found: Vectors) -> Outline:
    return Outline(render_vectors(found, "2026-03-01T09:22:00+00:00"))


def test_two_vectors_have_every_plot_and_figure() -> None:
    found = vectors("law", "medicine")
    assert list(draw_vectors(found)) == [
        "Cosines between task vectors",
        "Cosine by layer",
        "Sign conflicts by layer",
        "Change of law by layer",
        "Change of medicine by layer",
    ]
    text = vectors_page(found).text
    for words in ("law, medicine", "0.0214", "± 0.00009", "48.7%", "48.1%", "47.6%", "17.0%", "1,024 rows"):
        assert words in text
    assert "law and medicine are nearly independent: cosine 0.0214, random vectors ± 0.00009." in text
    assert "feed-forward gate" in text


def test_one_vector_has_no_pairs() -> None:
    found = vectors("law")
    assert list(draw_vectors(found)) == ["Change of law by layer"]
    text = vectors_page(found).text
    for words in ("Cosine", "Signs differ", "Sign conflicts", "Pairs"):
        assert words not in text
    assert "law changes the weights by 1.46% of their norm." in text


@pytest.mark.parametrize(
    ("cosine", "words"),
    [
        (0.0001, "are as independent as random vectors"),
        (-0.05, "are nearly independent"),
        (0.4, "pull the same way"),
        (-0.4, "pull against each other"),
        (None, "no angle: one of them changes nothing"),
    ],
)
def test_what_a_cosine_means(cosine: float | None, words: str) -> None:
    facts = analysis("law", "medicine")
    facts["pairs"][0]["cosine"] = cosine
    assert words in vectors_finding(Vectors.model_validate(facts))


def test_nothing_changed_draws_nothing() -> None:
    facts = analysis("law")
    facts["grid"]["relative"] = [[[0.0, None] for _ in facts["grid"]["kinds"]]]
    facts["grid"]["layers"] = [0, 1]
    assert draw_vectors(Vectors.model_validate(facts)) == {}


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    outline = vectors_page(vectors("law", "medicine", "code"))
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"]) for tag, attrs in outline.tags if tag == "a"]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert not [tag for tag, attrs in outline.tags if str(attrs.get("src", "")).startswith("http")]
    assert "law and code pull against each other" in outline.text


def test_names_from_data_are_escaped() -> None:
    found = vectors(HOSTILE, "two")
    html = render_vectors(found, "2026-03-01")
    assert HOSTILE not in html
    assert HOSTILE in Outline(html).text


def test_the_run_report_shows_what_the_merge_recorded() -> None:
    run = medical_run()
    assert not any(
        section.shown
        for section in sections(gather(_recorded(run, None)), defaultdict(dict))
        if section.key == "vectors"
    )
    recorded = json.loads(json.dumps(analysis("pretrain", "instruct")))
    facts = gather(_recorded(run, recorded))
    assert facts.merge is not None
    assert facts.merge.vectors == vectors("pretrain", "instruct")
    text = Outline(render(facts)).text
    assert "pretrain and instruct are nearly independent" in text
    assert "Change of instruct by layer" in text


def _recorded(run: RunRecord, found: dict[str, object] | None) -> RunRecord:
    """The run whose merge recorded an analysis, or none."""
    metrics = {"analysis": found} if found else {}
    stages = [
        dataclasses.replace(stage, metrics=metrics) if stage.kind == "merge" else stage
        for stage in run.stages
    ]
    return dataclasses.replace(run, stages=stages)
