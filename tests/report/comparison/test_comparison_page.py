"""The comparison's page: self-contained, escaped, small, whole when parts are missing."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from made_runs import FOUR, SETTINGS, a_run

from cpt.report.comparison.facts import ReportedRun, compare
from cpt.report.comparison.page import render, setting_words
from cpt.report.comparison.schema import Setting
from cpt.report.schema import Facts, Gate, Monitoring, TaskCurve, Training
from cpt.report.schema.measurements import CurvePoint
from cpt.report.templates import policy

NOW = "2026-03-01T09:22:56+00:00"
HOSTILE = "<script>alert(1)</script>"


class Outline(HTMLParser):
    """Start tags with their attributes, and the text between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, *attributes: str) -> list[str]:
        return [
            value for _, attrs in self.tags for name, value in attrs.items() if name in attributes and value
        ]


@pytest.fixture(scope="module")
def page() -> str:
    return render(compare(FOUR, SETTINGS, NOW))


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    outline = Outline(page)
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"img", "iframe", "object", "embed", "form", "base", "image", "foreignobject"}
    assert outline.values("src", "srcset", "action", "data", "poster") == []
    own = [f"{run.name}/report.html" for run in FOUR]
    links = outline.values("href", "xlink:href")
    assert all(link.startswith("#") or link in ["data:,", *own] for link in links)
    assert set(own) <= set(links)
    assert [a["content"] for tag, a in outline.tags if tag == "meta" and "http-equiv" in a] == [
        policy(["script.js"])
    ]
    assert not any(name.startswith("on") for _, attrs in outline.tags for name in attrs)


def test_the_order_is_from_the_verdict_to_the_details(page: str) -> None:
    text = Outline(page).text
    at = -1
    for part in (
        "4 runs compared on 1 March 2026",
        "replay-0 gains most on domain text (−0.310, general +0.090);",
        "Most domain gain −0.310 1 replay-0",
        "Shallowest general gap",
        "its own report",
        "beaten by replay-25 and replay-50",
        "Gain and cost of each run",
        "The front 1 replay-0 domain −0.310, general +0.090 2 replay-25",
        "Beaten 4 slow",
        "Change on held-out text",
        "−0.320 to −0.300 best",
        "Stability gap",
        "Domain text never got worse during training, in any run",
        "General text",
        "Tasks and suites",
        "medical macro average",
        "What differs in the recipes",
        "pretrain.replay 0 0.25 0.5 0.25",
        "{extend: {tokens: 256}}",
        "Tokens and time",
        "61,440",
    ):
        found = text.find(part, at + 1)
        assert found >= 0, part
        at = found


def test_ids_are_unique_and_every_reference_has_a_target(page: str) -> None:
    outline = Outline(page)
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in outline.values("href", "xlink:href") if link.startswith("#")]
    targets += outline.values("aria-labelledby", "aria-describedby") + re.findall(r"url\(#(.*?)\)", page)
    assert set(targets) <= set(ids)
    assert all("scope" in attrs for tag, attrs in outline.tags if tag == "th")


def test_strings_from_data_are_escaped_wherever_they_appear() -> None:
    facts = FOUR[0].facts
    assert facts.suites is not None
    probe, task = facts.probes["general"], facts.tasks["hpo-continuation"]
    curve = [CurvePoint(step=n, tokens=n, value=0.5 + n / 10) for n in range(3)]
    gate = Gate(limit=HOSTILE, probe=HOSTILE, action=HOSTILE, verdict="broken")
    hostile = facts.model_copy(
        update={
            "base": HOSTILE,
            "created": HOSTILE,
            "probes": {**facts.probes, HOSTILE: probe},
            "tasks": {HOSTILE: task.model_copy(update={"metric": HOSTILE})},
            "suites": facts.suites.model_copy(
                update={"averages": {HOSTILE: facts.suites.averages["medical"]}}
            ),
            "tokens": {HOSTILE: 5},
            "watched": Monitoring(gates=[gate], tasks={HOSTILE: TaskCurve(curve=curve)}),
        }
    )
    names = [f"{HOSTILE}{number}" for number in range(3)]
    runs = [
        dataclasses.replace(FOUR[i], name=name, facts=hostile, state=HOSTILE, missing=[HOSTILE], page=None)
        for i, name in enumerate(names)
    ]
    settings = [Setting(key=HOSTILE, values={names[0]: HOSTILE, names[1]: {HOSTILE: [HOSTILE]}})]
    page = render(compare(runs, settings, HOSTILE))
    assert page.lower().count("<script") == 1  # the page's own
    assert Outline(page).text.count(HOSTILE) > 40


def test_what_runs_lack_is_said() -> None:
    training = Training(stage="pretrain", steps=3, tokens=9)
    bare = Facts(
        name="b", title="b", base="b", verdict="", basis="", created="", confidence=0.95, training=training
    )
    text = Outline(render(compare([ReportedRun("a", bare), ReportedRun("b", bare)], [], NOW))).text
    for sentence in (
        "No two runs were measured on the same domain and general text;",
        "No run was measured on both domain and general text",
        "No run was measured on held-out text.",
        "a stability gap could not be seen",
        "No benchmark task was run.",
        "The recipes do not differ.",
    ):
        assert sentence in text
    assert "Limits" not in text


def test_figures_that_are_not_compared_say_so() -> None:
    stranger = a_run("stranger", -0.9, 0.0, texts={"domain": "00" * 32, "general": "11" * 32})
    text = Outline(render(compare([*FOUR, stranger], [], NOW))).text
    assert "−0.900 −0.910 to −0.890 not compared" in text
    assert "Notes on the comparison" in text
    assert "5 stranger its own report finished wheel:" in text


def test_limits_stand_side_by_side() -> None:
    def bounded(name: str, verdict: str) -> ReportedRun:
        gate = Gate(limit="general <= +0.02", probe="general", action="warn", verdict=verdict)  # type: ignore[arg-type]
        return a_run(name, -0.3, 0.0, watched=Monitoring(gates=[gate]))

    text = Outline(render(compare([bounded("a", "held"), bounded("b", "broken"), FOUR[2]], [], NOW))).text
    assert "general <= +0.02 held broken –" in text
    assert "Actions of the controller 0 0 0" in text


def test_many_long_runs_stay_under_five_megabytes() -> None:
    curve = [CurvePoint(step=n, tokens=n, value=1 + n % 89 / 89) for n in range(5_000)]

    def long(index: int) -> ReportedRun:
        run = a_run(f"run-{index}", -0.3 + index / 100, index / 50)
        probes = {name: probe.model_copy(update={"curve": curve}) for name, probe in run.facts.probes.items()}
        return dataclasses.replace(run, facts=run.facts.model_copy(update={"probes": probes}))

    assert len(render(compare([long(index) for index in range(12)], [], NOW)).encode()) < 5_000_000


def test_same_facts_same_page(page: str) -> None:
    assert render(compare(FOUR, SETTINGS, NOW)) == page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0003, "0.0003"),
        (0.25, "0.25"),
        ("rewarm-cosine", "rewarm-cosine"),
        (None, "null"),
        (True, "true"),
        ({"extend": {"tokens": 256}}, "{extend: {tokens: 256}}"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_settings_are_written_as_in_a_recipe(value: object, text: str) -> None:
    assert setting_words(value) == text
