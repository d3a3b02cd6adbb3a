"""The general suite over files in their authors' form: every prompt, every target as lm-eval makes them."""

import logging
from pathlib import Path
from typing import Any

import pytest
from general_files import BLIMP, write_original_files

from cpt.errors import DataError
from evals.preparation import PreparedTask, prepare
from evals.registry import Suite, suites
from evals.sources import general

GENERAL = suites()["general"]
TASKS = (
    "arc_easy",
    "hellaswag",
    "piqa",
    "winogrande",
    "openbookqa",
    "lambada_openai",
    "blimp_wh_island",
    "mmlu_virology",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = {"blimp": [], "mmlu": []}
    for entry in GENERAL.tasks:
        source, _, part = str(entry.source).partition(":")
        parts.get(source, []).append(part)
    return write_original_files(tmp_path_factory.mktemp("data"), parts["blimp"], parts["mmlu"])


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedTask]:
    ready, left_out = prepare([(GENERAL, "full")], folder, tmp_path_factory.mktemp("cache"), offline=True)
    assert left_out == []
    return ready


@pytest.fixture(scope="module")
def tasks(prepared: list[PreparedTask]) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    configs = [one.config for one in prepared if one.entry.task in TASKS]
    loaded: dict[str, Any] = TaskManager(include_defaults=False).load(configs)["tasks"]
    return loaded


def requests(task: Any, place: int) -> list[tuple[str, str]]:
    """What a model is asked of an item: contexts and continuations."""
    doc = task.eval_docs[place]
    context = task.fewshot_context(doc, 0)
    made = task.construct_requests(doc, context, metadata=(task.task_name, place, 1))
    return [request.args for request in (made if isinstance(made, list) else [made])]


def target(task: Any, place: int) -> Any:
    return task.doc_to_target(task.eval_docs[place])


def test_every_task_of_the_suite_runs_from_local_files(prepared: list[PreparedTask]) -> None:
    assert [one.entry for one in prepared] == list(GENERAL.tasks)
    assert all(one.data != "hub" for one in prepared)


def test_arc(tasks: dict[str, Any]) -> None:
    task = tasks["arc_easy"]
    assert requests(task, 0) == [
        ("Question: What do bees make?\nAnswer:", f" {choice}")
        for choice in ("milk", "honey", "silk", "wool")
    ]
    assert target(task, 0) == 1
    three = [("Question: Which is {{ hot }}?\nAnswer:", f" {choice}") for choice in ("ice", "fire", "snow")]
    assert requests(task, 1) == three
    assert target(task, 1) == 1


def test_openbookqa(tasks: dict[str, Any]) -> None:
    task = tasks["openbookqa"]
    assert requests(task, 0)[2] == ("A magnet attracts", " iron")
    assert [target(task, place) for place in (0, 1)] == [2, 0]


def test_winogrande(tasks: dict[str, Any]) -> None:
    task = tasks["winogrande"]
    assert requests(task, 0) == [
        ("Ann thanked Eve because Ann", " had helped."),
        ("Ann thanked Eve because Eve", " had helped."),
    ]
    assert [context for context, _ in requests(task, 1)] == [
        "The pot beat the pan since the pot",
        "The pot beat the pan since the pan",
    ]
    assert [task.doc_to_text(task.eval_docs[place]) for place in (0, 1)] == [1, 0]


def test_lambada(tasks: dict[str, Any]) -> None:
    task = tasks["lambada_openai"]
    assert requests(task, 0) == [("He called the dog, and in came the", " dog")]
    assert requests(task, 1) == [("The bell rang.\n\nShe heard the", " bell")]


def test_piqa(tasks: dict[str, Any]) -> None:
    task = tasks["piqa"]
    assert requests(task, 0) == [
        ("Question: open a jar\nAnswer:", " twist the lid"),
        ("Question: open a jar\nAnswer:", " twist the glass"),
    ]
    assert [target(task, place) for place in (0, 1)] == [0, 1]


def test_hellaswag(tasks: dict[str, Any]) -> None:
    task = tasks["hellaswag"]
    assert requests(task, 0)[1] == ("Baking: A woman opens an oven. She", " takes out a cake.")
    assert requests(task, 1)[0] == ("Health: How to rest. Lie down. Close your eyes.", " Breathe slowly.")
    assert [target(task, place) for place in (0, 1)] == [1, 0]


def test_blimp(tasks: dict[str, Any]) -> None:
    task = tasks["blimp_wh_island"]
    for place, pair in enumerate(BLIMP):
        good, bad = requests(task, place)
        assert (good[1].strip(), bad[1].strip()) == (pair["sentence_good"], pair["sentence_bad"])
        assert target(task, place) == 0


def test_mmlu(tasks: dict[str, Any]) -> None:
    task = tasks["mmlu_virology"]
    assert task.config.num_fewshot == 5
    context = task.fewshot_context(task.eval_docs[1], 5)
    assert context.count("\nAnswer: D\n\n") == 5
    assert context.endswith('Say "no",\nplease\nA. no\nB. 2009-01-01\nC. x\nD. y\nAnswer:')
    assert [target(task, place) for place in (0, 1)] == [1, 0]


@pytest.mark.parametrize(
    ("source", "task", "file", "content", "reason"),
    [
        ("piqa", "piqa", "piqa/valid-labels.lst", "0\n", "shorter"),
        ("piqa", "piqa", "piqa/valid-labels.lst", "0\n2\n", "not in list"),
        ("arc:easy", "arc_easy", "foundry/arc_easy.jsonl", '{"query": ', "arc_easy.jsonl:1: not valid JSON"),
        ("arc:easy", "arc_easy", "foundry/arc_easy.jsonl", "\n[1]", "arc_easy.jsonl:2: not an object"),
        ("arc:easy", "arc_easy", "foundry/arc_easy.jsonl", '{"choices": ["a"]}', "gold"),
        ("hellaswag", "hellaswag", "hellaswag_val_full.txt.bz2", "plain", "nvalid"),
        ("blimp:x", "blimp_causative", "BLiMP.zip", "no archive", "zip"),
        ("mmlu:virology", "mmlu_virology", "mmlu/dev/virology_dev.csv", "a,b,c\n", "3 fields where 6"),
        (
            "mmlu:virology",
            "mmlu_virology",
            "mmlu/dev/virology_dev.csv",
            "q,a,b,c,d,E\n",
            "is 'E', not one of",
        ),
    ],
)
def test_files_in_another_form_are_told(
    source: str, task: str, file: str, content: str, reason: str, tmp_path: Path
) -> None:
    data = write_original_files(tmp_path / "data", ["causative"], ["virology"])
    (data / file).write_text(content)
    entry = {"task": task, "source": source, "metric": "acc"}
    toys = Suite.model_validate({"name": "toy", "about": "Toys.", "tasks": [entry]})
    _, [left_out] = prepare([(toys, "full")], data, tmp_path / "cache", offline=True)
    assert reason in left_out.why


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Baking: a. b", "1", "x"], "3 lines"),
        (["Baking", "1", *"abcd"], "first two lines"),
        (["B: a", "4", *"abcd"], "'4'"),
    ],
)
def test_hellaswag_in_another_form(lines: list[str], reason: str, tmp_path: Path) -> None:
    import bz2

    (tmp_path / "data").mkdir()
    (tmp_path / "data/hellaswag_val_full.txt.bz2").write_bytes(bz2.compress("\n".join(lines).encode()))
    entry = {"task": "hellaswag", "source": "hellaswag", "metric": "acc"}
    toys = Suite.model_validate({"name": "toy", "about": "Toys.", "tasks": [entry]})
    _, [left_out] = prepare([(toys, "full")], tmp_path / "data", tmp_path / "cache", offline=True)
    assert reason in left_out.why


@pytest.mark.parametrize("answer", ["", "E", "AB"])
def test_an_answer_of_mmlu_is_one_of_four_letters(answer: str, tmp_path: Path) -> None:
    file = tmp_path / "virology_test.csv"
    file.write_text(f"Which?,a,b,c,d,{answer}\n", encoding="utf-8")
    with pytest.raises(DataError, match="not one of A, B, C, D"):
        general.MMLU.read({"test": file}, "virology")
