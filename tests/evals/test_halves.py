"""Items of a task in two halves, and what a task's scorer reads of one of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import write_tiny_model

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

from task_files import write_mmlu, write_piqa

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel, load_model
from evals.evaluation import evaluate_tasks
from evals.halves import FEWEST, half_of_item, left_out_of, take_half
from evals.measures import Choice, label_weights
from evals.preparation import PreparedTask, prepare
from evals.registry import Entry, Suite
from evals.results import Results
from evals.scorer import find_choice_task, half_problems, has_p_gold, make_scorer


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_piqa(tmp_path / "data", 80)


class Rows:
    """Stand in for lm-eval's task, with the parts that halves need."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[Any]:
        return self._rows

    @property
    def eval_docs(self) -> list[Any]:
        return self.test_docs()


def entry_of(task: str) -> Entry:
    found = find_choice_task(task)
    assert found is not None
    return found


def prepared(data: str, cache: Path, *tasks: str) -> list[PreparedTask]:
    suite = Suite(name="few", about="", tasks=tuple(map(entry_of, tasks)))
    return prepare([(suite, "full")], Path(data), cache)[0]


def test_an_item_is_in_one_half_whatever_the_order_of_its_columns() -> None:
    items = [{"question": f"q{n}", "contract": f"c{n // 5}"} for n in range(100)]
    halves = [half_of_item(item) for item in items]
    assert halves == [half_of_item(dict(reversed(item.items()))) for item in items]
    assert 35 < halves.count("search") < 65
    by_contract = [half_of_item(item, "contract") for item in items]
    assert all(len({*by_contract[first : first + 5]}) == 1 for first in range(0, 100, 5))
    assert {*by_contract} == {"search", "report"}


def test_the_halves_of_a_task_are_all_of_it() -> None:
    rows = [{"n": n} for n in range(40)]
    taken: dict[Any, Rows] = {"search": Rows(rows), "report": Rows(rows)}
    for half, task in taken.items():
        take_half(task, half)
    parts = [[row["n"] for row in task.eval_docs] for task in taken.values()]
    assert sorted(parts[0] + parts[1]) == list(range(40))
    assert [left_out_of(task) for task in taken.values()] == [len(parts[1]), len(parts[0])]
    assert left_out_of(Rows(rows)) == 0


def scored(model: Path, data: str, cache: Path, **changes: Any) -> Results:
    tasks = [replace(each, **changes) for each in prepared(data, cache, "piqa")]
    return evaluate_tasks(model, tasks, cache=cache / "answers", precision="fp32")


def test_an_evaluation_of_one_half_says_what_it_left_out(model: Path, data: str, tmp_path: Path) -> None:
    whole = scored(model, data, tmp_path)
    halves = [scored(model, data, tmp_path, half=half) for half in ("search", "report")]
    (everything,), ((one,), (other,)) = whole.tasks, (each.tasks for each in halves)
    assert (one.n + other.n, one.left_out, other.left_out) == (80, other.n, one.n)
    assert everything.left_out == 0
    assert f"{one.n} items by which the model was chosen are left out" in (other.note or "")
    values = dict(zip(whole.items["piqa"].ids, whole.items["piqa"].values, strict=True))
    for each in halves:
        found = each.items["piqa"]
        assert [values[name] for name in found.ids] == list(found.values)
    sampled = [replace(each, level="quick", half="report") for each in prepared(data, tmp_path, "piqa")]
    few = [replace(each, entry=each.entry.model_copy(update={"quick": 20})) for each in sampled]
    sample = evaluate_tasks(model, few, cache=tmp_path / "answers", precision="fp32")
    assert sample.tasks[0].n == 20
    assert {*sample.items["piqa"].ids} < {*halves[1].items["piqa"].ids}


@pytest.mark.parametrize("half", [None, "search"])
def test_a_scorer_reads_accuracy_and_p_gold_as_an_evaluation_does(
    model: Path, data: str, tmp_path: Path, half: Any
) -> None:
    expected = scored(model, data, tmp_path, half=half)
    scorer = make_scorer("piqa", None, data, model, "<s>", 3, half)
    assert scorer.items == expected.tasks[0].n
    assert scorer.data == expected.tasks[0].data
    packed = PackedLanguageModel(load_model(model))
    answers = scorer.score(packed, scorer.items)
    plain = evaluate_tasks(
        model,
        [replace(each, half=half) for each in prepared(data, tmp_path, "piqa")],
        cache=tmp_path / "answers",
        precision="fp32",
        start_token="<s>",
    )
    assert np.mean(answers.accuracy) == pytest.approx(plain.tasks[0].score)
    assert np.mean(answers.p_gold) == pytest.approx(plain.tasks[0].measures["p_gold"].score, abs=1e-6)
    assert scorer.weights == [1.0] * scorer.items
    assert scorer.score(packed, 7).p_gold == pytest.approx(answers.p_gold[:7], abs=1e-6)


def test_labels_count_the_same_however_rare_they_are() -> None:
    def answered(right: int, *texts: str) -> Choice:
        return Choice(right, texts, np.zeros(2), np.ones(2))

    labels = [answered(right, " yes", " no") for right in (0, 0, 0, 1)]
    assert label_weights(labels) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert label_weights([answered(0, " a nerve", " a vein"), answered(1, " x", " y")]).tolist() == [1, 1]


def test_a_half_that_is_too_small_to_choose_by_is_refused(model: Path, tmp_path: Path) -> None:
    small = write_piqa(tmp_path / "small", 24)
    with pytest.raises(StageFailed, match="items are too few to choose by"):
        make_scorer("piqa", None, small, model, "<s>", 3, "search")
    assert make_scorer("piqa", None, small, model, "<s>", 3).items == 24
    reasons = half_problems((entry_of("piqa"),), Path(small))
    assert f"of the {FEWEST} that each needs" in reasons["piqa"]
    assert (
        half_problems((entry_of("piqa"), entry_of("hellaswag")), Path(write_piqa(tmp_path / "b", 80))) == {}
    )


def test_tasks_with_p_gold_are_choices_by_likelihood(tmp_path: Path) -> None:
    assert has_p_gold(entry_of("piqa"))
    assert has_p_gold(entry_of("mmlu_anatomy_continuation"))
    assert not has_p_gold(entry_of("lambada_openai"))
    assert not has_p_gold(Entry(task="medquad", metric="rougeL"))
    assert not has_p_gold(Entry(task="no-such-task", metric="acc"))


def test_the_same_question_is_in_the_same_half_of_both_forms(tmp_path: Path) -> None:
    from evals.harness import load_tasks, silence_lm_eval

    data = write_mmlu(tmp_path / "data", "anatomy", 40)
    forms = ("mmlu_anatomy", "mmlu_anatomy_continuation")
    tasks = [replace(each, half="search") for each in prepared(data, tmp_path, *forms)]
    with silence_lm_eval():
        loaded = load_tasks(tasks, 1, {})
    letters, texts = ([item["question"] for item in loaded[form].eval_docs] for form in forms)
    assert sorted(letters) == sorted(texts)
    assert 0 < len(letters) < 40
