"""Benchmark items in the corpus stage: from suites, tasks and files; told when they are not at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

from near_copies import unrelated
from toy_suite import write_toy

from cpt.corpus import read_documents, read_index
from cpt.corpus.examples import read_examples
from cpt.errors import DataError, StageFailed
from cpt.progress import NullProgress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.benchmarks import benchmark_problems, read_benchmarks
from cpt.stages.corpus.config import Decontamination
from cpt.stages.corpus.stage import STAGE, CorpusConfig

GENERATOR = np.random.default_rng(0)
CLEAN = unrelated(GENERATOR, 40, 150)
MINE = unrelated(GENERATOR, 4, 20)
TOY = "What the nerve conducts in the night, the muscle of the heart contracts with: number 3? A doctor of 3."


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A toy suite with data, and a file of items."""
    write_toy(tmp_path)
    items = [{"id": 7, "context": {"passage": text}, "choices": ["yes", "no"]} for text in MINE]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return {
        "suite": str(tmp_path / "toy.yaml"),
        "data": str(tmp_path / "data"),
        "mine": str(tmp_path / "mine.jsonl"),
    }


def dirty(tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    domain = [f"{text}\n{MINE[n]}" if n < 4 else text for n, text in enumerate(CLEAN)]
    domain += [f"{CLEAN[0]} {CLEAN[1]} {TOY} {CLEAN[2]}"]
    return {
        "domain": [write(tmp_path / "domain.jsonl", *domain)],
        "replay": [
            write(
                tmp_path / "replay.jsonl",
                f"{CLEAN[5]}. {MINE[0].upper()}.",
                *(f"More: {text}" for text in CLEAN[20:24]),
            )
        ],
    }


def trained(corpus: Path) -> str:
    return " ".join(
        d.text for source in ("domain", "replay") for d in read_documents(corpus, source, "train")
    )


def contains(corpus: Path, item: str) -> bool:
    return item.lower() in trained(corpus).lower()


def test_items_of_suites_and_files_do_not_train(
    base: Artifact, tmp_path: Path, files: dict[str, str]
) -> None:
    wanted = {
        "suites": [files["suite"]],
        "tasks": ["openbookqa", "winogrande"],
        "data": files["data"],
        "files": [files["mine"]],
    }
    corpus, metrics, messages = run(base, tmp_path, **dirty(tmp_path), heldout=0.001, decontaminate=wanted)
    assert not any(contains(corpus, item) for item in (TOY, *MINE))
    counts = read_index(corpus).sources
    assert sum(each.removed["contaminated"].documents for each in counts.values()) >= 5
    for each in counts.values():
        kept = sum(split.bytes for split in each.splits.values())
        assert each.bytes_in == kept + sum(amount.bytes for amount in each.removed.values())
    found = metrics["decontamination"]
    assert found["tasks"]["arc_easy"] == {"items": 24, "too_short": 0, "found": 1}
    assert found["tasks"][files["mine"]]["found"] == 4
    assert found["tasks"]["openbookqa"]["too_short"] == 6
    assert "winogrande" in found["not_searched"]
    assert any("not searched for: winogrande: its data on the hub" in message for message in messages)
    assert any("not searched for: openbookqa: 6 of 6 have fewer than 13 words" in m for m in messages)
    lines = [json.loads(line) for line in (corpus / "contamination.jsonl").read_text().splitlines()]
    assert len(lines) == found["matches"] == found["listed"]
    assert {line["item"] for line in lines if line["task"] == files["mine"]} == {"1", "2", "3", "4"}
    assert {line["source"] for line in lines} == {"domain", "replay"}
    assert "contaminated" in {example.block for example in read_examples(corpus)}


def test_every_setting_changes_what_is_removed(base: Artifact, tmp_path: Path, files: dict[str, str]) -> None:
    def removed(name: str, **settings: Any) -> tuple[int, int, bool]:
        corpus, _, _ = run(base, tmp_path, name, **dirty(tmp_path), heldout=0.001, decontaminate=settings)
        counts = [each.removed.get("contaminated") for each in read_index(corpus).sources.values()]
        lost = sum(each.documents for each in counts if each), sum(each.bytes for each in counts if each)
        return *lost, contains(corpus, TOY)

    mine = removed("mine", files=[files["mine"]])
    assert mine[0] == 5
    assert mine[2]
    toy = {"suites": [files["suite"]], "data": files["data"]}
    assert removed("suite", **toy)[::2] == (1, False)
    assert removed("task", tasks=["arc_easy"], data=files["data"])[::2] == (1, False)
    assert removed("long", **toy, ngram=20)[::2] == (0, True)
    documents, size, there = removed("cut", **toy, action="cut")
    assert (documents, there) == (0, False)
    assert 400 < size < 800
    narrow = removed("narrow", **toy, action={"kind": "cut", "margin": 0})
    assert narrow[1] == pytest.approx(size - 400, abs=20)
    assert removed("shortest", **toy, action={"kind": "cut", "shortest": 100_000})[0] == 1
    assert removed("most", **toy, action={"kind": "cut", "most": 0})[0] == 1


def test_items_of_suites_and_files_are_questions_with_answers(tmp_path: Path, files: dict[str, str]) -> None:
    where = {"suites": [files["suite"]], "tasks": ["openbookqa"], "data": files["data"]}
    wanted = Decontamination.model_validate({**where, "files": [files["mine"]]})
    context = Context(tmp_path, tmp_path, 17, NullProgress(), {})
    questions = read_benchmarks(wanted, context).questions()
    found = questions.find(["Frog 2 is"], "C")
    assert found is not None
    assert found[0] == "openbookqa"
    arc = "What the nerve conducts in the night the muscle of the heart contracts with number 6?"
    assert (questions.find([arc], "a doctor of 6") or ("",))[0] == "arc_easy"
    assert questions.find([arc], "the fever") is None
    assert questions.find([MINE[1]], "Yes.") == (files["mine"], "2")


def test_without_any_item_the_stage_fails(base: Artifact, tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(StageFailed, match="no benchmark item to search for"):
        run(base, tmp_path, **dirty(tmp_path), decontaminate={"suites": [files["suite"]]})
    with pytest.raises(StageFailed, match="no benchmark item to search for"):
        run(base, tmp_path, "short", **dirty(tmp_path), decontaminate={"files": [files["mine"]], "ngram": 90})


def test_mistakes_are_found_before_running(base: Artifact, tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "whole"}\n{"question": \n[1, 2]\n')
    wanted = {
        "suites": ["medicine", files["suite"]],
        "tasks": ["arc_easi", "arc_easy"],
        "files": [str(tmp_path / "bad.jsonl"), files["mine"]],
        "data": files["data"],
    }
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "decontaminate": wanted})
    problems = [
        problem for problem in STAGE.check(config, {"model": base}) if "decont" in (problem.key or "")
    ]
    assert [(each.key, each.line) for each in problems] == [
        ("decontaminate.suites.0", None),
        ("decontaminate.tasks.0", None),
        ("decontaminate.files.0", 2),
        ("decontaminate.files.0", 3),
    ]
    assert problems[1].hint == "Did you mean `arc_easy`?"
    with pytest.raises(DataError, match=r"bad.jsonl:2"):
        run(base, tmp_path, **dirty(tmp_path), decontaminate={"files": [str(tmp_path / "bad.jsonl")]})
    assert STAGE.references(config) == [
        "a.jsonl",
        str(tmp_path / "bad.jsonl"),
        files["mine"],
        files["suite"],
        files["data"],
    ]
    assert STAGE.forecast(config, {}, {}).startswith("without items of medicine, ")


def test_files_that_cannot_be_read_are_named_before_running(tmp_path: Path) -> None:
    no_gzip, folder = tmp_path / "items.jsonl.gz", tmp_path / "items"
    no_gzip.write_text('{"question": "whole"}\n')
    folder.mkdir()
    problems = benchmark_problems(Decontamination(files=[str(no_gzip), str(folder)]))
    assert [(each.key, each.file) for each in problems] == [
        ("decontaminate.files.0", str(no_gzip)),
        ("decontaminate.files.1", str(folder)),
    ]
    assert all(each.message.startswith("cannot be read: ") for each in problems)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"data": "d"},
        {"files": ["a"], "data": "d"},
        {"suites": ["medical"], "action": "keep"},
        {"ngram": 13},
    ],
)
def test_wrong_settings_are_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "decontaminate": wrong})


def test_tasks_that_lack_their_data_for_one_reason_are_told_in_one_line(
    base: Artifact, tmp_path: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(wanted: Decontamination) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        return {}, {f"task{n}": "no data" for n in range(5)}

    monkeypatch.setattr("cpt.stages.corpus.benchmarks._task_items", without)
    wanted = {"files": [files["mine"]]}
    _, metrics, messages = run(base, tmp_path, **dirty(tmp_path), heldout=0.001, decontaminate=wanted)
    told = [message for message in messages if "no data" in message]
    assert told == ["benchmark items not searched for: task0, task1, task2 and 2 more: no data"]
    assert len(metrics["decontamination"]["not_searched"]) == 5
