"""Recall of the domain's facts in a comparison: side by side, with gaps, apart where the items differ."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pytest
from made_runs import FOUR, a_run
from test_comparison_page import HOSTILE, NOW, Outline

from cpt.corpus.recall import recall_key
from cpt.report.comparison.facts import ReportedRun, compare
from cpt.report.comparison.page import draw, recall_lines, render
from cpt.report.schema import Interval, PairedFigure, Task


def interval(value: float, half: float = 0.03) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def group(after: float, likely: float | None = 0.3, *, items: int = 200, before: float = 0.25) -> Task:
    """A group of the probe by its final score and p_gold."""
    p_gold = None
    if likely is not None:
        p_gold = PairedFigure(
            before=interval(0.26, 0.01),
            after=interval(likely, 0.01),
            difference=interval(likely - 0.26, 0.01),
        )
    return Task(
        metric="acc_norm",
        items=items,
        chance=0.25,
        before=interval(before),
        after=interval(after),
        difference=interval(after - before),
        p_gold=p_gold,
    )


def asked(name: str, recall: Mapping[str, Task], mark: str = "") -> ReportedRun:
    """A run by its answers; `mark` stands for the items of all groups, unknown if empty."""
    run = a_run(name, -0.3, 0.0, recall=dict(recall))
    return dataclasses.replace(run, items={recall_key(each): mark for each in recall} if mark else {})


DOCUMENTS = {"untrained": group(0.3, 0.275), "absent": group(0.25, 0.262)}
STUDIED = {
    "trained": group(0.6, 0.5),
    "untrained": group(0.42, 0.34),
    "absent": group(0.26, 0.264),
}


def section(page: str) -> str:
    """The text of the section on recall."""
    start = page.index('<section id="recall"')
    return Outline(page[start : page.index("</section>", start)]).text


def test_groups_stand_side_by_side_by_answers_and_by_p_gold() -> None:
    found = compare([asked("documents", DOCUMENTS, "x"), asked("study", STUDIED, "x")], [], NOW)
    assert [run.recall for run in found.runs] == [DOCUMENTS, STUDIED]
    assert not any(run.other_items for run in found.runs)
    assert found.best["recall.untrained"].runs == ["study"]
    assert found.best["recall.untrained"].value == pytest.approx(0.17)
    assert found.best["recall.untrained.p_gold"].value == pytest.approx(0.08)
    assert "recall.absent" not in found.best
    assert "recall.absent.p_gold" not in found.best
    page = render(found)
    text = section(page)
    assert '<a href="#recall">Recall</a>' in page
    assert "Recall of the domain's facts" in text
    assert (
        "untrained acc_norm 30.0% +5.0 (+2.0 to +8.0) 42.0% +17.0 (+14.0 to +20.0) best "
        "untrained p_gold 0.275 +0.015 (+0.005 to +0.025) 0.340 +0.080 (+0.070 to +0.090) best "
        "absent acc_norm 25.0% 0.0 (−3.0 to +3.0) 26.0% +1.0 (−2.0 to +4.0) absent p_gold"
    ) in text


def test_a_group_that_a_run_lacks_is_a_gap() -> None:
    found = compare([asked("documents", DOCUMENTS), asked("study", STUDIED), FOUR[0]], [], NOW)
    lines = {(line.name, line.what): list(line.cells) for line in recall_lines(found)}
    assert lines == {
        ("trained", "acc_norm"): ["study"],
        ("trained", "p_gold"): ["study"],
        ("untrained", "acc_norm"): ["documents", "study"],
        ("untrained", "p_gold"): ["documents", "study"],
        ("absent", "acc_norm"): ["documents", "study"],
        ("absent", "p_gold"): ["documents", "study"],
    }
    text = section(render(found))
    assert "trained acc_norm – 60.0% +35.0 (+32.0 to +38.0) – trained p_gold – 0.500" in text
    assert "A dash: the run was not asked about such facts." in text
    assert "recall.trained" not in found.best
    assert not any("recall" in note for note in found.notes)


def test_p_gold_that_one_run_lacks_is_a_gap() -> None:
    older = asked("older", {"untrained": group(0.3, None)})
    text = section(render(compare([older, asked("study", STUDIED)], [], NOW)))
    assert "untrained p_gold – 0.340" in text
    none = render(compare([older, dataclasses.replace(older, name="again")], [], NOW))
    assert "untrained acc_norm 30.0%" in section(none)
    assert "untrained p_gold" not in section(none)


def test_groups_of_other_items_are_named_and_not_compared() -> None:
    other = asked("other", STUDIED, "y")
    found = compare([asked("a", STUDIED, "x"), asked("b", DOCUMENTS, "x"), other], [], NOW)
    apart = ["recall:trained", "recall:untrained", "recall:absent"]
    assert [run.other_items for run in found.runs] == [[], [], apart]
    named = "trained, untrained and absent facts (recall probe)"
    assert f"other was asked about other {named}: these are not compared." in found.notes
    assert found.best["recall.untrained"].runs == ["a"]
    text = section(render(found))
    assert "42.0% +17.0 (+14.0 to +20.0) not compared" in text


def test_a_group_and_a_task_of_one_name_are_told_apart() -> None:
    def run(name: str, mark: str) -> ReportedRun:
        made = asked(name, {"untrained": group(0.3)}, "x")
        facts = made.facts.model_copy(update={"tasks": {"untrained": group(0.5)}})
        return dataclasses.replace(made, facts=facts, items={**made.items, "untrained": mark})

    found = compare([run("a", "x"), run("b", "y")], [], NOW)
    assert [row.other_items for row in found.runs] == [[], ["untrained"]]
    assert "b answered other items of untrained: these are not compared." in found.notes
    assert not any("recall probe" in note for note in found.notes)


def test_without_fingerprints_number_and_base_tell_the_items_apart() -> None:
    """Older versions of evaluate kept fingerprints of tasks alone."""
    fewer = {"untrained": group(0.4, items=7), "absent": group(0.25, before=0.2)}
    known, older = asked("known", DOCUMENTS, "x"), asked("older", DOCUMENTS)
    found = compare([known, older, asked("fewer", fewer)], [], NOW)
    assert [run.other_items for run in found.runs] == [[], [], ["recall:untrained", "recall:absent"]]
    note = "fewer was asked about other untrained and absent facts (recall probe): these are not compared."
    assert note in found.notes


def test_charts_show_the_changes_of_comparable_runs() -> None:
    runs = [asked("a", STUDIED, "x"), asked("b", STUDIED, "x"), asked("other", DOCUMENTS, "y")]
    drawn = draw(compare(runs, [], NOW))["recall"]
    assert list(drawn) == [
        "Trained facts",
        "Trained facts, p_gold",
        "Untrained facts",
        "Untrained facts, p_gold",
        "Absent facts",
        "Absent facts, p_gold",
    ]
    described = {title: ET.fromstring(svg).findtext("desc") for title, svg in drawn.items()}
    assert described["Untrained facts"] == "a: +17; b: +17"
    assert described["Untrained facts, p_gold"] == "a: +0.08; b: +0.08"


def test_json_has_every_group() -> None:
    data = json.loads(compare([asked("a", STUDIED), FOUR[0]], [], NOW).model_dump_json())
    assert list(data["runs"][0]["recall"]) == ["trained", "untrained", "absent"]
    found = data["runs"][0]["recall"]["untrained"]
    assert (found["items"], found["chance"], found["after"]["value"]) == (200, 0.25, 0.42)
    assert found["p_gold"]["after"] == pytest.approx({"value": 0.34, "low": 0.33, "high": 0.35})
    assert data["runs"][1]["recall"] == {}


def test_names_from_data_are_escaped() -> None:
    hostile = {HOSTILE: group(0.4).model_copy(update={"metric": HOSTILE})}
    runs = [asked("a", hostile, "x"), asked("b", hostile, "y")]
    page = render(compare(runs, [], NOW))
    assert page.lower().count("<script") == 1
    assert f"b was asked about other {HOSTILE} facts" in Outline(page).text
    assert section(page).count(HOSTILE) >= 5


def test_without_a_probe_there_is_no_section() -> None:
    found = compare(FOUR, [], NOW)
    assert all(run.recall == {} for run in found.runs)
    assert recall_lines(found) == []
    page = render(found)
    assert 'id="recall"' not in page
    assert "#recall" not in page
