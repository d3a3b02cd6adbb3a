"""A corpus stage that was stopped goes on behind what was finished, and ends with the same result."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus_runs import byte_model, run, write
from invented import definition, glossary_text, ontology, term

from cpt.corpus import blocks, document_tokenizer, tasks, tokenise
from cpt.stages.base import Artifact


class Stopped(Exception):
    """The end of an attempt."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.corpus.workers._CHUNK_ITEMS", 5)
    monkeypatch.setattr(tasks, "TASK_CHARACTERS", 600)


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A corpus with every step but decontamination."""
    a, b = ([f"{name}{n} word" for n in range(30)] for name in "ab")
    texts = [f"Header\nfinding {number}  of {number % 7} words and more" for number in range(80)]
    texts[70] += " fiancÃ©e"  # what unicode does first comes behind what whitespace does first
    return {
        "domain": [write(tmp_path / "domain.jsonl", *texts, *texts[:9])],
        "general": [write(tmp_path / "general.jsonl", *(f"general text {number}" for number in range(9)))],
        "replay": {
            "mixture": [
                {
                    "name": "a",
                    "weight": 1,
                    "sources": [write(tmp_path / "a.jsonl", *a)],
                },
                {
                    "name": "b",
                    "weight": 1,
                    "sources": [write(tmp_path / "b.jsonl", *b)],
                },
            ]
        },
        "clean": ["unicode", "whitespace", {"kind": "boilerplate", "share": 0.5}],
        "deduplicate": {"kind": "minhash", "bands": 4, "rows": 16},
        "select": {"tokens": 1500, "by": "random", "min_tokens": 8},
    }


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stopping(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """A function that stops at one of its calls."""
    left = [calls]

    def call(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return function(*arguments, **named)

    return call


PLACES = {
    "reading": ("cpt.stages.corpus.writing.read_sources", 5),
    "cleaning": ("cpt.corpus.blocks._cleaned", 240),
    "deduplicating": ("cpt.corpus.near_duplicates.find_near_duplicates", 0),
    "selecting": ("cpt.stages.corpus.selection.select", 0),
    "mixing": ("cpt.stages.corpus.selection.mix", 0),
    "tokenising": ("cpt.corpus.tokenise._count", 50),
    "ending": ("cpt.corpus.tokenise.write_index", 0),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_stopped_stage_ends_as_one_that_was_not(
    base: Artifact,
    tmp_path: Path,
    settings: dict[str, Any],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, expected, said = run(base, tmp_path, "whole", workers=1, **settings)
    name, calls = PLACES[place]
    module, _, function = name.rpartition(".")
    with monkeypatch.context() as patched:
        patched.setattr(name, stopping(getattr(importlib.import_module(module), function), calls))
        with pytest.raises(Stopped):
            run(base, tmp_path, "stopped", workers=1, **settings)
    shutil.rmtree(tmp_path / "stopped")  # the stage gets a fresh folder
    again, metrics, resaid = run(base, tmp_path, "stopped", workers=1, **settings)
    assert files(again) == files(whole)
    assert metrics == expected
    assert len(resaid) < len(said)


def test_what_was_cleaned_and_tokenised_is_not_done_again(
    base: Artifact, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: dict[str, int] = {}

    def counting(module: Any, name: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any) -> Any:
            counted[name] = counted.get(name, 0) + 1
            return function(*arguments)

        monkeypatch.setattr(module, name, call)

    counting(blocks, "_cleaned")
    counting(document_tokenizer, "split_document")
    with monkeypatch.context() as patched:
        patched.setattr(tokenise, "write_index", stopping(tokenise.write_index, 0))
        with pytest.raises(Stopped):
            run(base, tmp_path, "stopped", workers=1, **settings)
    first, counted = counted, {}
    shutil.rmtree(tmp_path / "stopped")
    run(base, tmp_path, "stopped", workers=1, **settings)
    assert "_cleaned" not in counted
    assert counted.get("split_document", 0) < first["split_document"] / 2


STUDY_PLACES = {
    "mining": ("cpt.corpus.study.reading.reading_documents", 20),
    "probing": ("cpt.corpus.study.writing.write_recall", 0),
    "adding": ("cpt.corpus.study.writing.add_study", 0),
    "after the study": ("cpt.corpus.steps._write", 3),
    "studying replay": ("cpt.corpus.study.replay.check_sums", 0),
}


@pytest.mark.parametrize("place", STUDY_PLACES)
def test_a_stopped_study_ends_as_one_that_was_not(
    base: Artifact, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = (f"A {term(3, 2)} is {definition(3, 2)}", "It grinds stones of sort 7.")
    item = write(tmp_path / "items.jsonl", *items)["path"]
    terms = str(ontology(tmp_path / "mills.obo", 30))
    tasks = {"sources": [write(tmp_path / "general.jsonl", *map(glossary_text, range(90, 110)))]}
    plain = {"sources": [write(tmp_path / "plain.jsonl", *(f"general text {n}" for n in range(200)))]}
    settings: dict[str, Any] = {
        "domain": [write(tmp_path / "domain.jsonl", *map(glossary_text, range(60)))],
        "study": {"miners": ["glossary"], "forms": 2, "trained": 1, "ontologies": [terms]},
        "replay": {
            "mixture": [
                {"name": "plain", "weight": 1, **plain},
                {"name": "tasks", "weight": 1, "study": {"miners": ["glossary"]}, **tasks},
            ]
        },
        "decontaminate": {"files": [item], "ngram": 6},
    }
    whole, expected, _ = run(base, tmp_path, "whole", workers=1, **settings)
    assert (whole / "contamination.jsonl").read_text().count("\n") >= 2  # of documents, and of questions
    name, calls = STUDY_PLACES[place]
    module, _, function = name.rpartition(".")
    with monkeypatch.context() as patched:
        patched.setattr(name, stopping(getattr(importlib.import_module(module), function), calls))
        with pytest.raises(Stopped):
            run(base, tmp_path, "stopped", workers=1, **settings)
    shutil.rmtree(tmp_path / "stopped")
    again, metrics, _ = run(base, tmp_path, "stopped", workers=1, **settings)
    assert files(again) == files(whole)
    assert metrics == expected
