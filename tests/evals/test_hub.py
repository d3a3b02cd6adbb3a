"""The hub: offline, out of reach, and data sets read file by file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from evaluated import CHOICE, task
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from tasks_on_files import prompts, written

from evals import hub, preparation
from evals.harness import Failures, load_tasks, silence_lm_eval
from evals.preparation import PreparedTask, prepare
from evals.registry import Entry, Suite
from evals.task_files import task_config


def state() -> tuple[bool, bool]:
    return datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.is_offline_mode()


def test_it_is_left_alone_and_asked_again_afterwards() -> None:
    before = state()
    with contextlib.suppress(KeyError), hub.offline():
        assert state() == (True, True)
        raise KeyError
    assert state() == before


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_says_so(monkeypatch: pytest.MonkeyPatch, value: str, offline: bool) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", value)
    assert hub.is_offline() is offline


def test_data_that_are_a_program_are_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    toys = Suite(name="toys", about="Toys.", tasks=(Entry(task="social_iqa", metric="acc"),))
    assert {"bigbio/pubmed_qa", "Rakuten/JGLUE"} < hub.loading_scripts()
    config = {**task_config("piqa"), "dataset_path": "allenai/social_i_qa"}
    monkeypatch.setattr(preparation, "task_config", lambda name: config)
    ready, [left_out] = prepare([(toys, "full")], None, tmp_path)
    assert ready == []
    assert "(allenai/social_i_qa) are a program, which `datasets` no longer runs" in left_out.why
    assert "it has no local form" in left_out.why
    config["dataset_kwargs"] = {"revision": "refs/convert/parquet"}
    assert prepare([(toys, "full")], None, tmp_path)[1] == []


def test_data_that_turn_out_to_be_a_program_are_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: str, **options: Any) -> Any:
        raise RuntimeError("Dataset scripts are no longer supported, but found where.py")

    monkeypatch.setattr(datasets, "load_dataset", refusing)
    failed: Failures = {}
    with silence_lm_eval():
        load_tasks([task(tmp_path, "first", {**CHOICE, "dataset_path": "some/where"})], 1, failed)
    assert "(some/where) are a program, which `datasets` no longer runs; local files" in failed["first"]


def test_once_it_cannot_be_reached_it_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [
        task(tmp_path, "first", {**CHOICE, "dataset_path": "some/where"}),
        task(tmp_path, "second", {**CHOICE, "dataset_path": "else/where"}),
        task(tmp_path, "local"),
    ]
    load, before, asked = datasets.load_dataset, state(), []

    def unreachable(path: str, **options: Any) -> Any:
        asked.append(state()[0])
        if path == "json":
            return load(path, **options)
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    failed: Failures = {}
    with silence_lm_eval():
        tasks = load_tasks(prepared, 1, failed)
    assert list(tasks) == ["local"]
    assert asked == [before[0], True, True]
    assert state() == before
    assert "some/where" in failed["first"]
    assert "local files can be read instead (`data`, --data DIR)" in failed["first"]


REVISION = hub.FILE_BY_FILE["nguha/legalbench"].revision
HEARSAY = {"hearsay": "balanced_accuracy"}
CLAUSES = [
    ("0", "Yes", "The Recipient may make one copy."),
    ("1", "No", "None"),
    ("2", "No", "2009-01-01"),
    ("3", "Yes", 'It may "copy" what it needs.'),
    *((str(number), "No", f"Clause {number}.") for number in range(4, 8)),
]


def legal(tasks: dict[str, str], folder: Path, offline: bool = False) -> tuple[list[PreparedTask], list[str]]:
    entries = tuple(Entry(task=f"legalbench_{name}", metric=metric) for name, metric in tasks.items())
    suite = Suite(name="some", about="Some.", tasks=entries)
    ready, left_out = prepare([(suite, "full")], None, folder, offline=offline)
    return ready, [one.why for one in left_out]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Record the requests to a hub that has TSV files of clauses."""
    file = tmp_path / "clauses.tsv"
    quoted = [(number, label, '"' + text.replace('"', '""') + '"') for number, label, text in CLAUSES]
    file.write_text("\n".join("\t".join(row) for row in [("index", "answer", "text"), *quoted]) + "\n")
    asked: list[tuple[str, ...]] = []

    def download(repository: str, path: str, *, repo_type: str, revision: str) -> str:
        asked.append((repo_type, repository, revision, path))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return asked


def loaded(ready: list[PreparedTask]) -> tuple[dict[str, Any], Failures]:
    failed: Failures = {}
    with silence_lm_eval():
        return load_tasks(ready, 1, failed), failed


def test_a_task_reads_the_files_of_its_splits_at_one_commit(
    tmp_path: Path, fetched: list[tuple[str, ...]]
) -> None:
    ready, _ = legal({"contract_nli_permissible_copy": "balanced_accuracy", "sara_numeric": "acc"}, tmp_path)
    assert not fetched  # nothing is fetched before the tasks are loaded
    tasks, failed = loaded(ready[:1])
    assert failed == {}
    place = ("dataset", "nguha/legalbench", REVISION)
    folder = "data/contract_nli_permissible_copy"
    assert fetched == [(*place, f"{folder}/{split}.tsv") for split in ("test", "train")]
    [task] = tasks.values()
    assert [task.doc_to_text(doc) for doc in task.eval_docs] == [
        f"Clause: {text}\nLabel:" for _, _, text in CLAUSES
    ]
    assert prompts(task)[0].count("Clause: ") == 1 + len(CLAUSES)
    # one of two Yes is right, and three of six No
    answers = [" yes.", "No", "NO", "perhaps", "No", "Yes", "Yes", "no idea"]
    assert written(task, answers) == {"balanced_accuracy": 1 / 2, "exact_match": 4 / 8}
    assert ready[1].config["dataset_kwargs"]["data_files"] == {
        "test": f"hf://datasets/nguha/legalbench@{REVISION}/data/sara_numeric/test.tsv"
    }


def test_a_hub_that_cannot_be_reached_or_lacks_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*place: str, **options: str) -> str:
        raise LocalEntryNotFoundError("no connection")

    ready, _ = legal(HEARSAY, tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    _, failed = loaded(ready)
    assert "the hub, which has its data (nguha/legalbench), cannot be reached" in failed["legalbench_hearsay"]

    def lacking(*place: str, **options: str) -> str:
        raise EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lacking)
    _, failed = loaded(ready)
    assert "nguha/legalbench on the hub has no file data/hearsay/test.tsv" in failed["legalbench_hearsay"]


def test_offline_files_that_were_fetched_before_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    ready, why = legal(HEARSAY, tmp_path, offline=True)
    assert ready == []
    assert "its data on the hub (nguha/legalbench) were never fetched" in why[0]
    kept = tmp_path / f"hub/datasets--nguha--legalbench/snapshots/{REVISION}/data/hearsay"
    kept.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [f"{n}\tYes\tHe said {n}.\tassertion" for n in range(6)]
        (kept / f"{split}.tsv").write_text("\n".join(["index\tanswer\ttext\tslice", *rows]) + "\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    ready, why = legal(HEARSAY, tmp_path, offline=True)
    assert why == []
    with hub.offline():
        tasks, failed = loaded(ready)
    assert failed == {}
    assert len(tasks["legalbench_hearsay"].eval_docs) == 6
