"""Tasks by name, as lm-eval itself finds and reads them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt.errors import DataError
from evals import task_files
from evals.task_files import metrics, task_config


@contextlib.contextmanager
def own_tasks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tasks of a folder in the place of this package's."""
    monkeypatch.setattr(task_files, "TASKS", folder)
    task_files.task_files.cache_clear()
    try:
        yield
    finally:
        task_files.task_files.cache_clear()


def test_names_are_those_of_lm_evals_index() -> None:
    from lm_eval.tasks import TaskManager

    files = task_files.task_files()
    for folder in ("arc", "mmlu", "xnli", "super_glue"):
        place = files["arc_easy"].parents[1] / folder
        index = TaskManager(include_path=place, include_defaults=False)
        assert index.all_subtasks
        for name in index.all_subtasks:
            assert files[name] == index.task_index[name].yaml_path


def test_a_configuration_has_what_it_includes_and_its_functions() -> None:
    assert task_config("arc_challenge")["doc_to_choice"] == "{{choices.text}}"
    assert callable(task_config("hellaswag")["process_docs"])


def test_metrics_are_those_that_the_task_declares_or_else_its_kinds() -> None:
    assert metrics(task_config("lambada_openai")) == ["perplexity", "acc"]
    assert metrics({"output_type": "multiple_choice"}) == ["acc", "acc_norm"]
    assert metrics({"metric_list": [{"metric": max}]}) == ["max"]


def test_a_task_of_this_package_goes_first_and_may_need_a_missing_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml").write_text("task: arc_easy\nprocess_docs: !function helper.run\n")
    (tmp_path / "helper.py").write_text("import no_such_library\n")
    with own_tasks(tmp_path, monkeypatch):
        assert task_files.task_files()["arc_easy"] == tmp_path / "own.yaml"
        with pytest.raises(DataError, match="no_such_library"):
            task_config("arc_easy")
        (tmp_path / "helper.py").write_text("raise RuntimeError('no metrics here')\n")
        with pytest.raises(DataError, match="cannot be loaded: no metrics here"):
            task_config("arc_easy")


def test_a_task_of_this_package_may_extend_one_of_lm_evals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in = task_config("piqa")
    (tmp_path / "own.yaml").write_text("extends: piqa/piqa.yaml\ntask: piqa\ndataset_path: mine\n")
    with own_tasks(tmp_path, monkeypatch):
        assert task_config("piqa") == {**built_in, "dataset_path": "mine"}
