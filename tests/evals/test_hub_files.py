"""Data sets that are read file by file from the hub, with files in the hub's place."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from tasks_on_files import prompts, written

from evals import hub
from evals.harness import Failures, load_tasks, silence_lm_eval
from evals.preparation import PreparedTask, prepare
from evals.registry import Entry, Suite

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
    """What is asked of the hub, which has TSV files of clauses."""
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
