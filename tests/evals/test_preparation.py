"""From suites to tasks that lm-eval can run: with local data, with the hub's, or left out with the reason."""

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from general_files import MMLU_DEV, MMLU_TEST, write_lines, write_original_files, write_records

from cpt.errors import UsageError
from evals import preparation
from evals.preparation import prepare
from evals.registry import Suite
from evals.sources import Source

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def suite(*entries: dict[str, Any], **one: Any) -> Suite:
    tasks = [{"metric": "acc", **entry} for entry in entries or (one,)]
    return Suite.model_validate({"name": "toy", "about": "Toys.", "tasks": tasks})


ANATOMY = {"task": "mmlu_anatomy", "source": "mmlu:anatomy"}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_original_files(tmp_path / "data", ["adjunct_island"], ["anatomy"])


def loaded(config: dict[str, Any]) -> Any:
    """lm-eval's own task."""
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    [task] = TaskManager(include_defaults=False).load([config])["tasks"].values()
    return task


def prompt(task: Any, place: int = 0) -> str:
    text: str = task.fewshot_context(task.eval_docs[place], task.config.num_fewshot)
    return text


def test_a_task_reads_local_files_with_its_own_prompt(data: Path, tmp_path: Path) -> None:
    [one], left_out = prepare([(suite(ANATOMY), "full")], data, tmp_path / "cache", offline=True)
    assert left_out == []
    assert one.data.startswith("mmlu ")
    assert len(one.data) == len("mmlu ") + 12
    assert (one.suite, one.level, one.entry.task) == ("toy", "full", "mmlu_anatomy")
    task = loaded(one.config)
    assert prompt(task) == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "What is 1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    )
    assert task.doc_to_target(task.eval_docs[0]) == 1
    assert task.eval_docs[1]["choices"][1] == "2009-01-01"  # a text, not a date


def test_examples_come_from_the_split_that_the_task_names(data: Path, tmp_path: Path) -> None:
    [one], _ = prepare([(suite({**ANATOMY, "fewshot": 2}), "full")], data, tmp_path / "cache")
    assert prompt(loaded(one.config)).count("Example") == 2
    assert one.config["num_fewshot"] == 2


def test_without_examples_no_split_is_listed_for_them(data: Path, tmp_path: Path) -> None:
    [one], _ = prepare([(suite(ANATOMY), "full")], data, tmp_path / "cache")
    task = loaded(one.config)
    assert task.fewshot_docs() == []
    assert list(task.dataset) == ["test"]


def test_the_level_decides_which_tasks_are_prepared(data: Path, tmp_path: Path) -> None:
    toys = suite({**ANATOMY, "smoke": 1}, {"task": "arc_easy", "source": "arc:easy", "quick": 3})
    for level, tasks in {"smoke": ["mmlu_anatomy"], "quick": ["arc_easy"]}.items():
        ready, _ = prepare([(toys, level)], data, tmp_path / "cache")  # type: ignore[list-item]
        assert [one.entry.task for one in ready] == tasks


def test_without_local_files_a_task_reads_the_hub(tmp_path: Path) -> None:
    [one], _ = prepare([(suite(ANATOMY), "full")], None, tmp_path / "cache")
    assert (one.data, one.config["dataset_path"], one.config["dataset_name"]) == (
        "hub",
        "cais/mmlu",
        "anatomy",
    )


def test_a_task_of_code_may_have_metrics_that_no_file_names(tmp_path: Path) -> None:
    [one], _ = prepare([(suite(task="squadv2", metric="f1"), "full")], None, tmp_path / "cache")
    assert one.entry.metric == "f1"
    _, [left_out] = prepare(
        [(suite(task="squadv2", metric="f1"), "full")], None, tmp_path / "cache", offline=True
    )
    assert "(named by the task's own code)" in left_out.why


def test_the_hubs_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "task": "arc_easy",
        "output_type": "multiple_choice",
        "dataset_path": "a/b",
        "dataset_kwargs": {"trust_remote_code": True, "revision": "1"},
    }
    monkeypatch.setattr(preparation, "task_config", lambda name: config)
    [one], _ = prepare([(suite(task="arc_easy", metric="acc"), "full")], None, tmp_path / "cache")
    assert one.config["dataset_kwargs"] == {"revision": "1"}


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_a_task_without_local_files_is_left_out_and_the_files_named(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    virology = suite(task="mmlu_virology", source="mmlu:virology")
    ready, [left_out] = prepare([(virology, "full")], data, tmp_path / "cache")
    assert ready == []
    assert (left_out.task, left_out.suite) == ("mmlu_virology", "toy")
    assert "cais/mmlu" in left_out.why
    assert f"{data} lacks dev/virology_dev.csv, test/virology_test.csv" in left_out.why
    _, [left_out] = prepare([(virology, "full")], None, tmp_path / "cache")
    assert "with --data DIR it reads dev/virology_dev.csv, test/virology_test.csv" in left_out.why
    _, [left_out] = prepare([(suite(task="xnli_de"), "full")], data, tmp_path / "cache")
    assert "it has no local form" in left_out.why


def test_offline_what_the_hub_gave_before_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    kept = tmp_path / "hub/cais___mmlu/anatomy/0.0.0/abc"
    kept.mkdir(parents=True)
    (kept / "dataset_info.json").write_text("{}")
    toys = suite({"task": "mmlu_anatomy"}, {"task": "mmlu_virology"})
    ready, left_out = prepare([(toys, "full")], None, tmp_path / "cache", offline=True)
    assert [(one.entry.task, one.data) for one in ready] == [("mmlu_anatomy", "hub")]
    assert [one.task for one in left_out] == ["mmlu_virology"]


def test_rows_are_written_once_for_the_same_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[str, str]:
        [one], _ = prepare([(suite(ANATOMY), "full")], data, tmp_path / "cache")
        found: dict[str, str] = one.config["dataset_kwargs"]["data_files"]
        return found

    first = files()
    times = {file: Path(file).stat().st_mtime_ns for file in first.values()}
    assert files() == first
    assert {file: Path(file).stat().st_mtime_ns for file in first.values()} == times
    write_records(data / "mmlu/test/anatomy_test.csv", [*MMLU_TEST, MMLU_DEV[0]])
    assert files() != first
    assert [len(pq.read_table(split["test"])) for split in (first, files())] == [2, 3]


def test_a_data_sets_version_makes_new_rows(data: Path, tmp_path: Path, toys: dict[str, Source]) -> None:
    def file(version: int) -> str:
        toys["toy"] = toy({"validation": [{"a": version}]}, version=version)
        [one], _ = prepare([(suite(task="piqa", source="toy"), "full")], data, tmp_path / "cache")
        return str(one.config["dataset_kwargs"]["data_files"]["validation"])

    assert file(1) == file(1) != file(2)
    assert pq.read_table(file(2)).to_pylist() == [{"a": 2}]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    known: dict[str, Source] = {}
    monkeypatch.setattr(preparation, "sources", lambda: known)
    return known


def toy(splits: dict[str, list[dict[str, Any]]] | Exception, version: int = 1) -> Source:
    def read(files: Any, part: str | None) -> dict[str, list[dict[str, Any]]]:
        if isinstance(splits, Exception):
            raise splits
        return splits

    files = {"all": "piqa/valid.jsonl"}
    return Source("toy", "Toys", "none", "here", files=files, read=read, version=version)


QUESTION = {"goal": "a", "sol1": "b", "sol2": "c", "label": 0}


@pytest.mark.parametrize(
    ("entry", "splits", "reason"),
    [
        (
            {},
            {"train": [QUESTION]},
            "its items are of the split `validation`; the local files of Toys lack it",
        ),
        ({}, {"validation": []}, "split `validation`"),
        ({"fewshot": 1}, {"validation": [QUESTION]}, "its examples are of the split `train`"),
        ({}, ValueError("no such column"), "not in the form of Toys: no such column"),
        ({}, {"validation": [QUESTION, {**QUESTION, "sol1": 3}]}, "not in the form of Toys: "),
        ({}, KeyError("goal"), "KeyError: 'goal'"),
    ],
)
def test_a_task_whose_data_lack_what_it_needs_is_left_out(
    entry: dict[str, Any], splits: Any, reason: str, data: Path, tmp_path: Path, toys: dict[str, Source]
) -> None:
    toys["toy"] = toy(splits)
    ready, [left_out] = prepare(
        [(suite(task="piqa", source="toy", **entry), "full")], data, tmp_path / "cache"
    )
    assert ready == []
    assert reason in left_out.why
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.name.startswith(".")]


@pytest.mark.parametrize(
    ("splits", "taken"),
    [
        ({"test_split": "t", "training_split": "r"}, "r"),
        ({"test_split": "t", "validation_split": "v"}, "v"),
        ({"test_split": "t", "fewshot_split": "f", "training_split": "r"}, "f"),
        ({"test_split": "t", "fewshot_config": {"split": "c"}, "fewshot_split": "f"}, "c"),
        ({"test_split": "t", "fewshot_split": "t"}, "t"),  # lm-eval takes the item out of its examples
        ({"test_split": "t", "fewshot_config": {"samples": [{}]}}, None),
        ({"test_split": "t"}, "refused"),
        ({"validation_split": "v"}, "refused"),
        ({"validation_split": "v", "fewshot_split": "v"}, "refused"),
    ],
)
def test_an_item_is_never_among_its_own_examples(
    splits: dict[str, Any],
    taken: str | None,
    data: Path,
    tmp_path: Path,
    toys: dict[str, Source],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toys["toy"] = toy({split: [QUESTION] for split in "trvfc"})
    config = {"task": "piqa", "output_type": "multiple_choice", **splits}
    monkeypatch.setattr(preparation, "task_config", lambda name: config)
    ready, left_out = prepare(
        [(suite(task="piqa", source="toy", fewshot=1), "full")], data, tmp_path / "cache"
    )
    if taken == "refused":
        assert "no split for the examples" in left_out[0].why
    else:
        assert ready[0].config["fewshot_split"] == taken


def test_rows_of_different_columns_are_a_mistake_of_the_data_sets_reader(
    data: Path, tmp_path: Path, toys: dict[str, Source]
) -> None:
    toys["toy"] = toy({"validation": [{"a": 1}, {"b": 1}]})
    with pytest.raises(ValueError, match="differ in their columns"):
        prepare([(suite(task="piqa", source="toy"), "full")], data, tmp_path / "cache")


def test_mistakes_of_a_suite_and_of_a_folder_are_told_at_once(data: Path, tmp_path: Path) -> None:
    write_lines(data / "other/arc_easy.jsonl", [])
    toys = suite(
        {"task": "arc_esy"},
        {"task": "piqa", "metric": "f1"},
        {"task": "hellaswag", "source": "helaswag"},
        {"task": "arc_easy", "source": "arc:easy"},
        {"task": "arc_challenge", "source": "arc"},
        {"task": "kobest_copa", "metric": "f1"},
        {"task": "gsm8k", "metric": "exact_match,flexible-extract"},
    )
    with pytest.raises(UsageError) as error:
        prepare([(toys, "full")], data, tmp_path / "cache")
    text = str(error.value)
    assert "task arc_esy: no such task; did you mean `arc_easy`?" in text
    assert "task piqa: no metric `f1`; the task has acc, acc_norm" in text
    assert "no data set `helaswag`; there are: arc" in text
    assert "arc_easy.jsonl: 2 different files" in text
    assert "data set `arc` has parts; name one of them: `arc:PART`" in text
    unknown = "of which no error can be computed; name another of its metrics: acc"
    assert f"task kobest_copa: metric `f1` is aggregated by `macro_f1_score`, {unknown}" in text
    assert "gsm8k" not in text
    assert not (tmp_path / "cache").exists()


def test_a_mean_of_the_items_that_have_a_value_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = [{"metric": "bleu", "aggregation": "nanmean"}]
    config = {"task": "piqa", "dataset_path": "a/b", "output_type": "generate_until", "metric_list": metrics}
    monkeypatch.setattr(preparation, "task_config", lambda name: config)
    ready, left_out = prepare([(suite(task="piqa", metric="bleu"), "full")], None, tmp_path / "cache")
    assert len(ready) == 1
    assert left_out == []


def test_a_data_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        prepare([(suite(ANATOMY), "full")], tmp_path / "none", tmp_path / "cache")


def test_a_task_of_code_cannot_read_local_files(
    data: Path, tmp_path: Path, toys: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    toys["toy"] = toy({"validation": [QUESTION]})
    config = {"task": "piqa", "output_type": "multiple_choice", "class": object}
    monkeypatch.setattr(preparation, "task_config", lambda name: config)
    _, [left_out] = prepare([(suite(task="piqa", source="toy"), "full")], data, tmp_path / "cache")
    assert "code of its own" in left_out.why
