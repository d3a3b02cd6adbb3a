"""The hub: left alone when asked to, and once it cannot be reached."""

import contextlib
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from evaluated import CHOICE, task

from evals import hub, preparation
from evals.harness import Failures, load_tasks, silence_lm_eval
from evals.preparation import prepare
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
    assert "(some/where) are a program, which `datasets` no longer runs; --data DIR" in failed["first"]


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
    assert "--data DIR reads local files" in failed["first"]
