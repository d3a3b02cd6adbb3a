"""Task vectors on a page of their own and in the run report."""

from __future__ import annotations

import dataclasses
import json

import pytest
from full_run import full_run
from test_page import HOSTILE, Outline
from vector_facts import analysis

from cpt.report.facts import RunRecord, gather
from cpt.report.merge_pages import draw_vectors, render_vectors
from cpt.report.page import render
from cpt.report.schema import Vectors
from cpt.report.summary_text import vectors_finding


def vectors(*names: str) -> Vectors:
    return Vectors.model_validate(analysis(*names))


def page(found: Vectors) -> Outline:
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
    text = page(found).text
    for words in ("law, medicine", "0.0214", "± 0.00009", "48.7%", "48.1%", "47.6%", "17.0%", "1,024 rows"):
        assert words in text
    assert "law and medicine are nearly independent: cosine 0.0214, random vectors ± 0.00009." in text
    assert "feed-forward gate" in text


def test_one_vector_has_no_pairs() -> None:
    found = vectors("law")
    assert list(draw_vectors(found)) == ["Change of law by layer"]
    text = page(found).text
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
    outline = page(vectors("law", "medicine", "code"))
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
    run = full_run()
    assert "Task vectors" not in Outline(render(gather(_recorded(run, None)))).text
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
