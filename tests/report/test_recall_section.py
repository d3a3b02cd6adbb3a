"""The recall of the domain's facts, and p_gold of tasks: in the JSON and on the page."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from medical_run import SCORES, compared, level
from test_page import HOSTILE, Outline

from cpt.report.facts import RunRecord, gather
from cpt.report.page import render
from cpt.report.schema import Facts
from cpt.report.tables import recall_rows

P_GOLD = {
    "before": level(0.262, 0.251, 0.273),
    "after": level(0.318, 0.305, 0.331),
    "difference": level(0.056, 0.044, 0.068),
}
ABSENT = {
    "metric": "acc_norm",
    "items": 140,
    "chance": 0.25,
    "before": level(0.243, 0.179, 0.32),
    "after": level(0.236, 0.173, 0.313),
    "difference": level(-0.007, -0.061, 0.047),
}
UNTRAINED = {
    "metric": "acc_norm",
    "items": 200,
    "chance": 0.25,
    "before": level(0.26, 0.204, 0.325),
    "after": level(0.405, 0.339, 0.474),
    "difference": level(0.145, 0.081, 0.208),
    "p_gold": P_GOLD,
}
RECALL: dict[str, Any] = {"untrained": UNTRAINED, "absent": ABSENT}


def with_recall(run: RunRecord, recall: dict[str, Any], **more: Any) -> Facts:
    assert run.scores is not None
    return gather(dataclasses.replace(run, scores={**run.scores, "recall": recall, **more}))


def test_json_has_every_group_with_its_intervals(run: RunRecord) -> None:
    data = json.loads(with_recall(run, RECALL).model_dump_json())
    assert list(data["recall"]) == ["untrained", "absent"]
    assert data["recall"]["untrained"] == UNTRAINED
    assert data["recall"]["absent"] == {**ABSENT, "p_gold": None}


def test_json_has_p_gold_of_tasks_and_of_suites(run: RunRecord) -> None:
    tasks = {**SCORES["tasks"], "mine": {**SCORES["tasks"]["hpo-continuation"], "p_gold": P_GOLD}}
    likely = compared("general", 0.31, 0.36, "better")
    suites = SCORES["suites"] | {
        "tasks": {**SCORES["suites"]["tasks"], "piqa": SCORES["suites"]["tasks"]["piqa"] | {"p_gold": likely}}
    }
    data = json.loads(with_recall(run, {}, tasks=tasks, suites=suites).model_dump_json())
    assert data["tasks"]["mine"]["p_gold"] == P_GOLD
    assert data["tasks"]["hpo-continuation"]["p_gold"] is None
    assert data["suites"]["tasks"]["piqa"]["p_gold"]["difference"] == pytest.approx(0.05)
    assert data["suites"]["tasks"]["pubmedqa"]["p_gold"] is None


def test_the_page_shows_groups_by_answers_and_by_likelihood(run: RunRecord) -> None:
    facts = with_recall(run, RECALL)
    rows = [(row.label, row.measure, row.judgement) for row in recall_rows(facts)]
    assert rows == [
        ("untrained", "acc_norm", "better"),
        ("untrained", "p_gold", "better"),
        ("absent", "acc_norm", "no change"),
    ]
    text = Outline(render(facts)).text
    parts = [
        "Recall of the domain's facts",
        "on untrained facts, of which only the documents are",
        "The training read domain text 0.10 times. What it read less than once it did not read whole",
        "untrained acc_norm 200 25.0% 26.0% 20.4% to 32.5% 40.5% 33.9% to 47.4% +14.5 pts +8.1 to +20.8",
        "untrained p_gold 200 25.0% 0.262 0.251 to 0.273 0.318 0.305 to 0.331 +0.056 +0.044 to +0.068 better",
        "absent acc_norm 140",
        "no change",
        "untrained minus absent is what training on the documents made accessible",
        "Benchmark tasks",
    ]
    at = text.rindex("What it was trained on")
    for part in parts:
        at = text.find(part, at + 1)
        assert at >= 0, part


@pytest.mark.parametrize(("documents", "whole"), [(0.999, False), (1.0, True)])
def test_the_page_says_how_often_documents_and_questions_were_read(
    run: RunRecord, documents: float, whole: bool
) -> None:
    assert run.training is not None
    epochs = {"documents": documents, "questions": 2.5, "reading": 0.4}
    parts = {name: {"tokens": 9, "sequences": 1, "epochs": each} for name, each in epochs.items()}
    ledger = {**run.training.ledger, "domain": {**run.training.ledger["domain"], "parts": parts}}
    read = dataclasses.replace(run, training=dataclasses.replace(run.training, ledger=ledger))
    text = Outline(render(with_recall(read, RECALL))).text
    times = "1.00" if whole else "0.99"
    assert f"The training read documents {times} times and questions 2.50 times." in text
    assert ("some facts of these groups were not read" in text) == (not whole)
    untrained = dataclasses.replace(run, training=None)
    assert "The training read" not in Outline(render(with_recall(untrained, RECALL))).text


def test_without_a_probe_there_is_no_section(facts: Facts, medical_page: str) -> None:
    assert facts.recall == {}
    assert 'id="recall"' not in medical_page
    assert "p_gold" not in medical_page[medical_page.index('id="tasks"') : medical_page.index('id="suites"')]


def test_p_gold_stands_beside_the_scores_of_tasks(run: RunRecord) -> None:
    tasks = {"mine": {**SCORES["tasks"]["hpo-continuation"], "p_gold": P_GOLD}, **SCORES["tasks"]}
    text = Outline(render(with_recall(run, {}, tasks=tasks))).text
    assert "mine acc_norm 200 25.0% 41.0% 52.5% +11.5 pts 0.262 0.318 +0.056 +0.044 to +0.068" in text
    assert "general-continuation acc_norm 200 25.0% 51.5% 50.5% −1.0 pts – – –" in text


def test_further_models_have_their_recall(run: RunRecord) -> None:
    found = {"bits_per_byte": SCORES["bits_per_byte"], "recall": RECALL}
    facts = with_recall(run, RECALL, against={"org/instruct": found})
    assert facts.against["org/instruct"].recall == facts.recall
    text = Outline(render(facts)).text
    assert "recall, untrained acc_norm 0.260 0.405 +0.145 +0.081 to +0.208" in text
    assert "recall, untrained p_gold 0.262 0.318 +0.056 +0.044 to +0.068" in text


def test_names_from_data_are_escaped(run: RunRecord) -> None:
    hostile = {HOSTILE: {**UNTRAINED, "metric": HOSTILE}}
    page = render(with_recall(run, hostile, against={"x": {"recall": hostile}}))
    assert page.lower().count("<script") == 1
    assert Outline(page).text.count(HOSTILE) >= 5
