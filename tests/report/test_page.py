"""The page: self-contained, escaped, accessible, small, and whole when stages are missing."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from medical_run import RECIPE, SCORES, STAGES, compared

from cpt.report.facts import RunRecord, gather
from cpt.report.page import render, slug
from cpt.report.schema import Facts
from cpt.report.templates import clock, day, policy, script
from cpt.report.theme import PALETTE


class Outline(HTMLParser):
    """Start tags with their attributes, the text between tags, and that of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.cdata_elem == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, *attributes: str) -> list[str]:
        return [
            value for _, attrs in self.tags for name, value in attrs.items() if name in attributes and value
        ]


@pytest.fixture
def page(medical_page: str) -> str:
    return medical_page


@pytest.fixture(scope="module")
def outline(medical_page: str) -> Outline:
    return Outline(medical_page)


def test_the_page_asks_the_network_for_nothing(page: str, outline: Outline) -> None:
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"img", "iframe", "object", "embed", "form", "base", "image", "foreignobject"}
    assert set(outline.values("src", "srcset", "action", "data", "poster")) == set()
    assert all(link.startswith("#") or link == "data:," for link in outline.values("href", "xlink:href"))
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page))
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not any(name.startswith("on") for _, attrs in outline.tags for name in attrs)


def test_the_page_forbids_what_it_does_not_need(outline: Outline) -> None:
    policies = [a["content"] for tag, a in outline.tags if tag == "meta" and "http-equiv" in a]
    assert policies == [policy(["script.js"])]
    granted = dict(rule.split(" ", 1) for rule in policies[0].split("; "))
    scripts = [hashlib.sha256(text.encode()).digest() for text in outline.scripts]
    assert granted["script-src"] == " ".join(f"'sha256-{b64encode(each).decode()}'" for each in scripts)
    assert (granted["default-src"], granted["connect-src"]) == ("'none'", "'none'")


def test_the_page_is_navigable(outline: Outline) -> None:
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("h1") == tags.count("main") == 1
    headings = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert all("scope" in attrs for tag, attrs in outline.tags if tag == "th")
    assert ("a", {"class": "skip", "href": "#main"}) in outline.tags
    assert ("html", {"lang": "en"}) in outline.tags


def test_ids_are_unique_and_every_reference_has_a_target(page: str, outline: Outline) -> None:
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in outline.values("href", "xlink:href") if link.startswith("#")]
    targets += outline.values("aria-labelledby", "aria-describedby") + re.findall(r"url\(#(.*?)\)", page)
    assert targets
    assert set(targets) <= set(ids)


def test_the_vocabulary_says_how_its_rows_were_made(outline: Outline) -> None:
    assert "Rows of new tokens time of the stage subtoken-mean 22 s" in outline.text


def test_the_order_is_from_the_verdict_to_the_details(outline: Outline) -> None:
    parts = [
        "28% fewer bits per byte on domain text;",
        "−28%",
        "122,880",
        "10 min 14 s",
        "−0.319 to −0.299",
        "no change",
        "Stability gap",
        "merged −0.001",
        "It was back at the base level by step 40.",
        "Diamond: the merged model (task-arithmetic, pretrain at weight 0.9), drawn at",
        "Loss and learning rate",
        "What it was trained on",
        "Duplicate of heldout",
        "14% fewer tokens",
        "hpo-continuation",
        "Retention of medical against general: +7.5 points (+2.5 to +12.5)",
        "medical:quick macro average",
        "pubmedqa",
        "+0.059",
        "better",
        "medqa is left out: its data are not there.",
        "Time by stage",
        "kind: rewarm-cosine",
        "77aa88bb77aa",
        "cpt run medical.yaml",
    ]
    at = -1
    for part in parts:
        at = outline.text.find(part, at + 1)
        assert at >= 0, part


HOSTILE = "<script>alert(1)</script>"


def test_strings_from_data_are_escaped_wherever_they_appear(run: RunRecord) -> None:
    scores = {
        "bits_per_byte": {HOSTILE: SCORES["bits_per_byte"]["general"]},
        "tasks": {HOSTILE: SCORES["tasks"]["hpo-continuation"] | {"metric": HOSTILE}},
        "suites": {
            "levels": {HOSTILE: HOSTILE},
            "averages": {HOSTILE: compared(HOSTILE, 0.1, 0.2, "better", tasks=1)},
            "tasks": {HOSTILE: compared(HOSTILE, 0.1, 0.2, "better", task=HOSTILE, metric=HOSTILE, n=9)},
            "groups": [compared(HOSTILE, 0.1, 0.2, "better", group=HOSTILE, tasks=2)],
            "no_signal": [{"task": HOSTILE, "suite": HOSTILE, "metric": HOSTILE, "n": 9, "a": 0.2, "b": 0.3}],
            "retention": {HOSTILE: {"general": HOSTILE, "points": 1.0, "verdict": "better"}},
            "left_out": [{"task": HOSTILE, "suite": HOSTILE, "why": HOSTILE}],
        },
    }
    stages = [
        dataclasses.replace(
            stage, name=HOSTILE, fingerprint=HOSTILE, created=HOSTILE, versions={HOSTILE: HOSTILE}
        )
        for stage in STAGES
    ]
    assert run.training is not None
    row = {"sequences": 1, "tokens": 9, "epochs": 1}
    ledger = {HOSTILE: row | {"parts": {HOSTILE: row}}}
    probes = [{"step": n, "tokens": n, "probe": HOSTILE, "kind": "text", "value": 1 + n} for n in (0, 1)]
    training = dataclasses.replace(run.training, stage=HOSTILE, ledger=ledger, probes=probes)
    listed = {"path": HOSTILE, "licence": HOSTILE, "language": HOSTILE, "documents_in": 1, "bytes_in": 9}
    source = {"documents_in": 1, "removed": {HOSTILE: {"documents": 1, "bytes": 9}}, "splits": {}}
    source["listed"] = {HOSTILE: listed}
    recipe = {"name": HOSTILE, "base": HOSTILE, "stages": [{HOSTILE: HOSTILE}]}
    hostile = RunRecord(
        recipe=recipe,
        stages=stages,
        created=HOSTILE,
        machine={HOSTILE: HOSTILE},
        title=HOSTILE,
        corpus={"sources": {HOSTILE: source}},
        training=training,
        scores=scores,
    )
    page = render(gather(hostile))
    outline = Outline(page)
    assert outline.scripts == [script("script.js")]
    assert page.lower().count("<script") == 1
    assert outline.text.count(HOSTILE) > 20
    assert "cpt run script-alert-1-script.yaml" in outline.text


def test_groups_and_tasks_without_signal_are_on_the_page(run: RunRecord) -> None:
    assert run.scores is not None
    suites = dict(run.scores["suites"])
    suites["tasks"] = {
        **suites["tasks"],
        **{
            name: compared("general", 0.6, 0.5, "no change", task=name, group="mmlu", metric="acc", n=5)
            for name in ("m1", "m2")
        },
    }
    suites["groups"] = [compared("general", 0.6, 0.5, "worse", group="mmlu", tasks=2)]
    suites["averages"] = {"general": compared("general", 0.5, 0.45, "worse", tasks=3, of=4)}
    silent = {
        "suite": "medical",
        "metric": "acc",
        "n": 64,
        "a": 0.21,
        "a_stderr": 0.051,
        "b": 0.23,
        "guessing": 0.25,
    }
    suites["no_signal"] = [{**silent, "task": "mmlu_anatomy"}]
    suites["tasks"].pop("pubmedqa")
    likely = compared("medical", 0.31, 0.36, "better", metric="p_gold", task="mmlu_cloze", n=77)
    by_p_gold = {
        "tasks": {"mmlu_cloze": likely},
        "averages": {"medical": compared("medical", 0.31, 0.36, "better", tasks=1, of=1)},
        "no_signal": [{**silent, "task": "pubmedqa", "metric": "p_gold"}],
    }
    suites["measures"] = {"p_gold": by_p_gold}
    suites["chosen"] = "a model was chosen by half of the items of m1"
    scores = {**run.scores, "suites": suites}
    text = " ".join(Outline(render(gather(dataclasses.replace(run, scores=scores)))).text.split())
    assert "mmlu mean of the group 2 tasks" in text
    assert "Chosen by tasks: a model was chosen by half of the items of m1." in text
    assert "3 of 4 tasks" in text
    assert "medical: neither model is above guessing in any task, so the suite has no average." in text
    assert "mmlu_anatomy medical acc 64 0.210 ± 0.051 0.230 ± – 0.250" in text
    assert "By p_gold" in text
    assert "mmlu_cloze p_gold 77" in text
    assert "No signal by p_gold" in text
    assert "pubmedqa medical p_gold 64" in text


def test_what_a_run_lacks_is_said(bare: RunRecord) -> None:
    text = Outline(render(gather(bare))).text
    for sentence in (
        "Nothing was measured on held-out text.",
        "a stability gap could not be seen",
        "This recipe has no pretrain stage.",
        "This recipe has no corpus stage.",
        "This recipe has no vocabulary stage",
        "No benchmark task was run.",
        "No stage has finished yet.",
        "This recipe has no corpus, vocabulary, pretrain, merge or evaluate stage.",
    ):
        assert sentence in text


@pytest.mark.parametrize("missing", ["corpus", "training", "scores"])
def test_each_part_can_be_missing(run: RunRecord, missing: str) -> None:
    assert "<h1>" in render(gather(dataclasses.replace(run, **{missing: None})))


def test_without_intervals_no_finding_is_claimed(run: RunRecord) -> None:
    outline = Outline(render(gather(dataclasses.replace(run, scores=None))))
    assert "no interval" in outline.text
    assert "Diamond: where training ended." in outline.text
    assert "merged −" not in outline.text
    assert not any("judgement" in name for name in outline.values("class"))


def test_unaccounted_documents_stand_out(run: RunRecord) -> None:
    source = {"documents_in": 5, "removed": {}, "splits": {"train": {"documents": 4}}}
    page = render(gather(dataclasses.replace(run, corpus={"sources": {"domain": source}})))
    assert "NOT all" in page


def test_every_listed_source_has_its_licence_and_language(run: RunRecord) -> None:
    books = {"path": "a", "licence": "CC-BY-4.0", "language": "pt-BR", "documents_in": 1200, "bytes_in": 9}
    sides = {
        name: {"documents": 500, "listed": {"books": {"documents": 500, "bytes": 4}}}
        for name in ("train", "heldout")
    }
    source = {"documents_in": 1200, "removed": {}, "splits": sides, "listed": {"books": books}}
    page = render(gather(dataclasses.replace(run, corpus={"sources": {"domain": source}})))
    for shown in ("books", "CC-BY-4.0", "pt-BR", "1,200", "1,000"):
        assert f">{shown}<" in page
    assert "their licences" not in render(gather(run))


def test_the_ledger_tells_what_was_trained_on_of_every_listed_source(run: RunRecord) -> None:
    assert run.training is not None
    facts = {"path": "a", "documents_in": 1, "bytes_in": 1}
    source = {"documents_in": 2, "removed": {}, "splits": {}, "listed": {"books": facts, "web": facts}}
    row = {"sequences": 3, "tokens": 7_700, "epochs": 1.25, "tokens_without_loss": 3_300}
    listed = {"books": {"tokens": 6_543, "epochs": 2.75}}
    pages = [
        render(
            gather(
                dataclasses.replace(
                    run,
                    corpus={"sources": {"domain": source}},
                    training=dataclasses.replace(run.training, ledger={"domain": row | more}),
                )
            )
        )
        for more in ({}, {"listed": listed}, {"tokens_without_loss": 0})
    ]
    for shown in ("6,543", "2.75"):
        assert [f">{shown}<" in page for page in pages] == [False, True, False]
    assert [">4,400<" in page and "With loss" in page for page in pages] == [True, True, False]


def test_a_long_run_stays_under_a_megabyte(run: RunRecord) -> None:
    assert run.training is not None
    steps = [{"step": n, "tokens": n, "loss_nats": 2 + n % 97 / 97, "lr": 1e-4} for n in range(1, 20_001)]
    probes = [
        {
            "step": n,
            "tokens": n,
            "probe": name,
            "kind": "text",
            "value": 1 + n % 89 / 89,
            "standard_error": 0.01,
        }
        for name in ("domain", "general")
        for n in range(2_000)
    ]
    long = dataclasses.replace(run.training, steps=steps, probes=probes)
    assert len(render(gather(dataclasses.replace(run, training=long))).encode()) < 1_000_000


def test_same_facts_same_page(facts: Facts, page: str) -> None:
    assert render(facts) == page


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "muted", "domain", "general", "replay", "other"])
@pytest.mark.parametrize("ground", ["card", "page"])
def test_text_can_be_read_in_both_modes(role: str, ground: str, mode: str) -> None:
    pair = sorted(luminance(getattr(PALETTE[name], mode)) for name in (role, ground))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_names_become_file_names_and_times_words() -> None:
    assert slug("../../My Recipe; rm -rf") == "my-recipe-rm--rf"
    assert slug("...") == "recipe"
    assert day("2026-03-01T09:22:56.123456+00:00") == "1 March 2026"
    assert clock("2026-03-01T09:22:56+00:00") == "2026-03-01 09:22"
    assert clock("2026-03-01T01:22:56+02:00") == "2026-02-28 23:22"
    assert day("yesterday") == clock("yesterday") == "yesterday"


def test_the_fixture_is_the_recipe_of_the_page(page: str) -> None:
    assert RECIPE["base"] in page
