"""The report on a selection: the histogram, what became of the documents, the classifier, the terms."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from medical_run import with_corpus_metric

from cpt.report import charts, page
from cpt.report.facts import RunRecord, gather

SELECTION: dict[str, Any] = {
    "by": "concepts",
    "tokens": 5000,
    "measure": "smallest cap that keeps it",
    "better": "low",
    "candidates": {
        "selected": {"documents": 60, "tokens": 5100, "best": 0.5, "median": 3.25, "worst": 9.125},
        "not_selected": {"documents": 40, "tokens": 4000, "best": 9.5, "median": 20, "worst": 31},
        "no_term": {"documents": 7, "tokens": 900},
    },
    "histogram": {"edges": [0.0, 10.0, 20.0, 31.0], "selected": [60, 0, 0], "others": [5, 15, 20]},
    "concepts": {
        "terms": 19034,
        "found": 623,
        "cap": 9.125,
        "head": {"terms": 79, "before": 3539, "after": 2312},
        "tail": {"terms": 544, "before": 1262, "after": 1261},
        "largest": [{"term": "<b>Fever</b>", "before": 679, "after": 279}],
        "documents_without": 7,
    },
}


def test_the_page_shows_the_selection_and_escapes_its_terms(run: RunRecord) -> None:
    facts = gather(with_corpus_metric(run, "selection", SELECTION))
    assert facts.selection is not None
    html = page.render(facts)
    for words in (
        "623 of 19,034 terms were found; 7 documents have none.",
        "No term",
        "3,539",
        "9.125",
        "&lt;b&gt;Fever&lt;/b&gt;",
        "Low scores are selected first",
    ):
        assert words in html
    assert "<b>Fever" not in html


def test_a_classifiers_test_and_a_band_are_told(run: RunRecord) -> None:
    test = {"trained": 640, "tested": 160, "accuracy": 0.9875, "auc": 0.9998}
    found = {
        **SELECTION,
        "by": "classifier",
        "better": "inside",
        "candidates": {"selected": {"documents": 3, "tokens": 9, "lowest": 1, "median": 2, "highest": 2.5}},
        "classifier": test,
        "concepts": None,
    }
    html = page.render(gather(with_corpus_metric(run, "selection", found)))
    assert "right in 98.8%" in html
    assert "ROC curve of 1.000" in html
    assert "inside a band" in html
    assert "2.500" in html


@pytest.mark.parametrize("selection", [None, {}])
def test_without_a_selection_there_is_nothing(run: RunRecord, selection: dict[str, Any] | None) -> None:
    facts = gather(with_corpus_metric(run, "selection", selection))
    assert facts.selection is None
    assert "Documents by score" not in page.render(facts)


def test_a_selection_of_an_earlier_version_has_no_histogram(run: RunRecord) -> None:
    facts = gather(with_corpus_metric(run, "selection", {"by": "random", "tokens": 5, "candidates": {}}))
    assert facts.selection is not None
    assert charts.selection_scores(facts.selection) is None
    page.render(facts)


def test_the_histogram_says_how_many_are_selected(run: RunRecord) -> None:
    facts = gather(with_corpus_metric(run, "selection", SELECTION))
    assert facts.selection is not None
    svg = charts.selection_scores(facts.selection)
    assert svg is not None
    assert "60 of 100 documents (60%) are selected" in (ET.fromstring(svg).findtext("desc") or "")
    assert "smallest cap that keeps it" in [text.text for text in ET.fromstring(svg).iter("text")]
