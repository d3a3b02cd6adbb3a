"""The likelihood of the right choice: oracles, the tasks that have one, and its comparison."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from results_made import made_results

from evals.comparing.comparison import compare
from evals.comparing.tables import to_csv, to_markdown
from evals.likelihoods import item_likelihoods, task_likelihood
from evals.results import ItemLikelihoods, Results

TASK = SimpleNamespace(OUTPUT_TYPE="multiple_choice")


def sample(likelihoods: list[float], texts: list[str], target: Any = 0, **more: Any) -> dict[str, Any]:
    return {
        "target": target,
        "filtered_resps": [(likelihood, False) for likelihood in likelihoods],
        "arguments": [("Question", text) for text in texts],
        "doc": {},
        **more,
    }


def test_equal_likelihoods_per_byte_are_guessing() -> None:
    texts = [" yes", " no", " perhaps", " é"]
    found = item_likelihoods(TASK, [sample([-0.5 * len(text.encode()) for text in texts], texts, 2)])
    assert found is not None
    assert found.p_gold == pytest.approx((0.25,))
    assert found.margin == pytest.approx((0.0,))
    assert found.bits_per_byte == pytest.approx((0.5 / math.log(2),))
    assert found.choices == (4,)
    task = task_likelihood(found)
    assert (task.p_gold, task.chance, task.stderr) == (pytest.approx(0.25), 0.25, None)


def test_the_right_choice_is_weighed_by_its_bytes() -> None:
    rows = [sample([-4.0, -9.0], ["ab", "abc"], target) for target in (0, 1)]
    found = item_likelihoods(TASK, rows)
    assert found is not None
    odds = math.exp(-2) / (math.exp(-2) + math.exp(-3))
    assert found.p_gold == pytest.approx((odds, 1 - odds))
    assert found.margin == pytest.approx((1.0, -1.0))
    assert found.bits_per_byte == pytest.approx((2 / math.log(2), 3 / math.log(2)))


def test_labels_and_contexts_name_the_right_choice_too() -> None:
    by_label = sample([-1.0, -2.0], [" no", " yes"], "yes")
    found = item_likelihoods(TASK, [by_label])
    assert found is not None
    assert found.margin[0] < 0
    contexts = SimpleNamespace(
        OUTPUT_TYPE="multiple_choice", multiple_input=2, doc_to_text=lambda doc: doc["right"]
    )
    same = sample([-1.0, -2.0], [" went on", " went on"], "went on", doc={"right": 1})
    found = item_likelihoods(contexts, [same])
    assert found is not None
    assert found.margin == pytest.approx((-1 / 8,))


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (SimpleNamespace(OUTPUT_TYPE="generate_until"), sample([-1.0, -2.0], ["a", "b"])),
        (TASK, sample([-1.0, -2.0, -1.0, -2.0], ["a", "b"])),  # each asked without its question too
        (TASK, sample([-1.0, -2.0], ["a", "b"], [0, 1])),
        (TASK, sample([-1.0, -2.0], ["a", "b"], "c")),
        (TASK, sample([-1.0, -2.0], ["a", "b"], 2)),
        (TASK, sample([-1.0], ["a"])),
    ],
)
def test_other_tasks_have_none(task: Any, row: dict[str, Any]) -> None:
    assert item_likelihoods(task, [sample([-1.0, -2.0], ["a", "b"]), row]) is None


def with_likelihoods(results: Results, probabilities: dict[str, np.ndarray]) -> Results:
    items, tasks = dict(results.items), []
    for score in results.tasks:
        values = probabilities.get(score.task)
        if values is not None:
            flat = (0.0,) * len(values)
            found = ItemLikelihoods(
                p_gold=tuple(values.tolist()), margin=flat, bits_per_byte=flat, choices=(4,) * len(values)
            )
            items[score.task] = items[score.task].model_copy(update={"likelihoods": found})
            score = score.model_copy(update={"likelihood": task_likelihood(found)})
        tasks.append(score)
    return results.model_copy(update={"items": items, "tasks": tuple(tasks)})


def test_what_answers_do_not_show_likelihoods_do() -> None:
    generator = np.random.default_rng(3)
    answers = {f"medical/g/{name}": generator.integers(0, 2, 200) for name in ("one", "two")}
    answers["medical/other/written"] = generator.integers(0, 2, 200)
    before = {name: generator.uniform(0.2, 0.5, 200) for name in ("one", "two")}
    after = {name: values + generator.normal(0.02, 0.05, 200) for name, values in before.items()}
    a, b = (
        with_likelihoods(made_results(model, answers), found)
        for model, found in (("a", before), ("b", after))
    )
    comparison = compare(a, b)
    assert {task.verdict for task in comparison.tasks} == {"no change"}
    found = comparison.by_likelihood
    assert found is not None
    assert {(task.task, task.metric, task.chance) for task in found.tasks} == {
        ("one", "p_gold", 0.25),
        ("two", "p_gold", 0.25),
    }
    [average], [group] = found.averages, found.groups
    assert average.verdict == group.verdict == "better"
    means = [float((after[name] - before[name]).mean()) for name in before]
    assert average.difference == pytest.approx(np.mean(means))
    for task, mean in zip(found.tasks, means, strict=True):
        assert task.difference == pytest.approx(mean)
        assert task.interval is not None
        assert task.interval[0] < mean < task.interval[1]
    lines = to_csv(comparison).splitlines()
    assert sum(",p_gold," in line for line in lines) == 4
    assert "### medical by likelihood" in to_markdown(comparison)


def test_a_model_that_guesses_has_no_signal_by_likelihood() -> None:
    generator = np.random.default_rng(5)
    answers = {"general/g/one": generator.integers(0, 2, 100)}
    a, b = (
        with_likelihoods(made_results(model, answers), {"one": generator.normal(0.25, 0.05, 100)})
        for model in "ab"
    )
    found = compare(a, b).by_likelihood
    assert found is not None
    assert [task.task for task in found.no_signal] == ["one"]
    assert not found.averages


def test_without_likelihoods_nothing_is_said_of_them() -> None:
    answers = {"general/g/one": np.array([0, 1, 1, 0])}
    comparison = compare(made_results("a", answers), made_results("b", answers))
    assert comparison.by_likelihood is None
    assert "likelihood" not in to_markdown(comparison)
