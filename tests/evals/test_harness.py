"""lm-eval while it is driven and afterwards; the texts of items."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task as task_module
import pytest
from general_files import write_original_files
from jinja2.exceptions import UndefinedError
from lm_eval.utils import apply_template, env

from evals.harness import item_text, item_texts, load_tasks, silence_lm_eval
from evals.preparation import PreparedTask, prepare
from evals.registry import Suite
from evals.task_scores import item_ids


def state() -> tuple:
    return (
        logging.getLogger("lm_eval").level,
        task_module.tqdm,
        datasets.is_progress_bar_enabled(),
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
        env.from_string,
    )


def test_the_libraries_are_silent_meanwhile_and_as_before_afterwards(capfd: pytest.CaptureFixture) -> None:
    before = state()
    with contextlib.suppress(KeyError), silence_lm_eval():
        logging.getLogger("lm_eval").warning("noise")
        list(task_module.tqdm(range(3)))
        assert not datasets.is_progress_bar_enabled()
        assert not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
        raise KeyError
    assert state() == before
    assert capfd.readouterr().err == ""


def test_templates_are_compiled_once_and_render_the_same() -> None:
    with silence_lm_eval():
        assert env.from_string("{{ a }}!") is env.from_string("{{ a }}!")
        assert [apply_template("{{ a }}!", {"a": text}) for text in ("x", "{{ a }}")] == ["x!", "{{ a }}!"]
        with pytest.raises(UndefinedError):
            apply_template("{{ a }}!", {})


ENTRIES = [
    {"task": "arc_easy", "source": "arc:easy", "metric": "acc"},
    {"task": "winogrande", "source": "winogrande", "metric": "acc"},
    {"task": "lambada_openai", "source": "lambada", "metric": "acc"},
    {"task": "mmlu_anatomy", "source": "mmlu:anatomy", "metric": "acc"},
    {"task": "blimp_adjunct_island", "source": "blimp:adjunct_island", "metric": "acc"},
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedTask]:
    folder = tmp_path_factory.mktemp("texts")
    data = write_original_files(folder / "data", ["adjunct_island"], ["anatomy"])
    suite = Suite.model_validate({"name": "toy", "about": "Toys.", "tasks": ENTRIES})
    ready, left_out = prepare([(suite, "full")], data, folder / "cache", offline=True)
    assert left_out == []
    return ready


@pytest.fixture(scope="module")
def ids(prepared: list[PreparedTask]) -> dict[str, tuple[str, ...]]:
    tasks = load_tasks(prepared, 0, {})
    return {name: item_ids(list(task.eval_docs)) for name, task in tasks.items()}


def test_prompt_and_right_answer_of_every_kind_of_task(
    prepared: list[PreparedTask], ids: dict[str, tuple[str, ...]]
) -> None:
    texts = item_texts(prepared, ids, {})
    first = {name: texts[name][each[0]] for name, each in ids.items()}
    assert first == {
        "arc_easy": "Question: What do bees make?\nAnswer:\nhoney",
        "winogrande": "Ann thanked Eve because Eve had helped.",
        "lambada_openai": "He called the dog, and in came the\n dog",
        "mmlu_anatomy": "What is 1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:\nB",
        "blimp_adjunct_island": "\nDogs bark.",
    }


def test_only_the_wanted_items_that_are_there_come_back(
    prepared: list[PreparedTask], ids: dict[str, tuple[str, ...]]
) -> None:
    wanted = {"arc_easy": [ids["arc_easy"][1], "0" * 16], "unknown": ["x"]}
    texts = item_texts(prepared, wanted, {})
    assert texts == {"arc_easy": {ids["arc_easy"][1]: "Question: Which is {{ hot }}?\nAnswer:\nfire"}}


def test_a_task_that_does_not_load_is_told(prepared: list[PreparedTask]) -> None:
    [arc, *_] = prepared
    data = {**arc.config["dataset_kwargs"], "data_files": {"test": str(Path("nowhere.parquet").absolute())}}
    broken = PreparedTask(arc.suite, arc.level, arc.entry, {**arc.config, "dataset_kwargs": data}, arc.data)
    failed: dict[str, str] = {}
    assert item_texts([broken], {"arc_easy": ["x"]}, failed) == {}
    assert "nowhere" in failed["arc_easy"]


class Written:
    """A task that generates, with several right answers."""

    def doc_to_text(self, document: Any) -> str:
        return str(document["ask"])

    def doc_to_target(self, document: Any) -> list[str]:
        return list(document["answers"])


def test_all_right_answers_count() -> None:
    assert item_text(Written(), {"ask": "Q?", "answers": ["a", "b"]}) == "Q?\na\nb"
