"""The report on study documents: what was mined, and what a model wrote."""

from __future__ import annotations

from typing import Any

import pytest
from medical_run import with_corpus_metric

from cpt.report import page
from cpt.report.facts import RunRecord, gather

STUDY: dict[str, Any] = {
    "facts": 1797,
    "items": {"glossary": {"define": 783, "name": 12}, "relation": {"entails: yes": 21}},
    "probe": {"trained": 200, "absent": 40},
}
WRITTEN: dict[str, Any] = {
    "model": "<b>base</b>",
    "passages": 16,
    "passages_with_probed_facts": 3,
    "requests": 32,
    "tokens": {"read": 12_000, "written": 3_400},
    "price": 0.25,
    "kinds": {
        "questions": {
            "results": 78,
            "used": 61,
            "reasons": {"answer_not_in_passage": 17},
            "outcomes": {},
            "compression": 2.5,
        },
        "rephrase": {"results": 0, "used": 0, "reasons": {}, "outcomes": {}, "compression": None},
    },
}


def test_what_was_mined_is_shown_by_task(run: RunRecord) -> None:
    facts = gather(with_corpus_metric(run, "study", STUDY))
    assert facts.study is not None
    assert facts.study.model_dump(exclude={"written"}) == STUDY
    html = page.render(facts)
    for words in ("1,797 facts", "200 trained, 40 absent", "entails: yes", 'data-value="783"'):
        assert words in html
    assert "written by a model" not in html


def test_what_a_model_wrote_is_shown_with_its_yield_and_escaped(run: RunRecord) -> None:
    facts = gather(with_corpus_metric(run, "study", {**STUDY, "probe": {}, "written": WRITTEN}))
    html = page.render(facts)
    for words in (
        "&lt;b&gt;base&lt;/b&gt; was asked 32 times about 16 passages: 12,000 tokens read, 3,400 written",
        "for 0.25 in the unit of the given price",
        "answer not in passage 17",
        "Items of the recall probe: none.",
    ):
        assert words in html
    assert "<b>base" not in html


@pytest.mark.parametrize("study", [None, {}])
def test_without_study_documents_there_is_nothing(run: RunRecord, study: dict[str, Any] | None) -> None:
    facts = gather(with_corpus_metric(run, "study", study))
    assert facts.study is None
    assert "Study documents" not in page.render(facts)
