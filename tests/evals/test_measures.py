"""Measures beside a task's metric: oracles, the tasks that have them, and their comparison."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from results_made import made_results, with_items, with_task
from scipy.stats import ttest_rel

from evals.comparing.comparison import compare
from evals.comparing.tables import to_csv, to_markdown
from evals.measures import CALIBRATED, P_GOLD, measure, p_gold
from evals.results import Label, Measure, Results

TASK = SimpleNamespace(OUTPUT_TYPE="multiple_choice", aggregation=dict)
LABELS = [" yes", " no", " maybe"]


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
    found = measure(TASK, [sample([-0.5 * len(text.encode()) for text in texts], texts, 2)])
    assert found.items[P_GOLD] == pytest.approx((0.25,))
    assert found.items["margin"] == pytest.approx((0.0,))
    assert found.items["bits_per_byte"] == pytest.approx((0.5 / math.log(2),))
    assert found.task[P_GOLD] == Measure(score=found.items[P_GOLD][0], stderr=None, chance=0.25)


@pytest.mark.parametrize("choices", [2, 3, 5])
def test_p_gold_of_equal_likelihoods_is_one_in_so_many(choices: int) -> None:
    assert p_gold(np.full(choices, -700.0), choices - 1) == pytest.approx(1 / choices)


def test_the_right_choice_is_weighed_by_its_bytes() -> None:
    rows = [sample([-4.0, -9.0], ["ab", "abc"], target) for target in (0, 1)]
    found = measure(TASK, rows).items
    odds = math.exp(-2) / (math.exp(-2) + math.exp(-3))
    assert found[P_GOLD] == pytest.approx((odds, 1 - odds))
    assert found["margin"] == pytest.approx((1.0, -1.0))
    assert found["bits_per_byte"] == pytest.approx((2 / math.log(2), 3 / math.log(2)))


def test_labels_and_contexts_name_the_right_choice_too() -> None:
    by_label = sample([-1.0, -2.0], [" no", " yes"], "yes")
    assert measure(TASK, [by_label]).items["margin"][0] < 0
    contexts = SimpleNamespace(
        OUTPUT_TYPE="multiple_choice",
        aggregation=dict,
        multiple_input=2,
        doc_to_text=lambda doc: doc["right"],
    )
    same = sample([-1.0, -2.0], [" went on", " went on"], "went on", doc={"right": 1})
    found = measure(contexts, [same])
    assert found.items["margin"] == pytest.approx((-1 / 8,))
    assert CALIBRATED not in found.items


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (SimpleNamespace(OUTPUT_TYPE="generate_until"), sample([-1.0, -2.0], ["a", "b"])),
        (
            SimpleNamespace(OUTPUT_TYPE="multiple_choice", aggregation=lambda: {"acc_mutual_info": None}),
            sample([-1.0, -2.0, -1.0, -2.0], ["a", "b", "a", "b"]),  # asked without the question too
        ),
        (TASK, sample([-1.0, -2.0, -1.0], ["a", "b"])),
        (TASK, sample([-1.0, -2.0], ["a", "b"], [0, 1])),
        (TASK, sample([-1.0, -2.0], ["a", "b"], "c")),
        (TASK, sample([-1.0, -2.0], ["a", "b"], 2)),
        (TASK, sample([-1.0], ["a"])),
    ],
)
def test_other_tasks_have_none(task: Any, row: dict[str, Any]) -> None:
    assert measure(task, [sample([-1.0, -2.0], ["a", "b"]), row]) == ({}, {}, {})


def asked(nats: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    return [sample(row.tolist(), LABELS, gold) for row, gold in zip(nats, right.tolist(), strict=True)]


def test_a_habit_of_one_label_is_worth_nothing() -> None:
    """Answers that do not depend on the question score one in three, whatever the habit and the labels."""
    generator = np.random.default_rng(2)
    verdicts = []
    for _ in range(40):
        right = generator.choice(3, 500, p=[0.55, 0.35, 0.1])
        plain, habit = (
            measure(TASK, asked(generator.normal(0, 2, (500, 3)) + np.array([size, 0.0, -size]), right))
            for size in (0.0, 3.0)
        )
        for name in (P_GOLD, CALIBRATED):
            for found in (plain, habit):
                assert found.task[name].chance == pytest.approx(1 / 3)
                assert abs(found.task[name].score - 1 / 3) < 5 * (found.task[name].stderr or 0)
        assert habit.labels["yes"].predicted > 380
        assert habit.labels["yes"].calibrated < 330
        change = np.array(habit.items[CALIBRATED]) - np.array(plain.items[CALIBRATED])
        verdicts.append(abs(change.mean()) > 1.96 * change.std(ddof=1) / math.sqrt(500))
    assert sum(verdicts) <= 6  # of 40 at the level of 5%


def test_knowledge_is_found_under_a_habit() -> None:
    generator = np.random.default_rng(2)
    right = generator.choice(3, 400, p=[0.55, 0.35, 0.1])
    known = generator.normal(0, 1, (400, 3)) + 2 * np.eye(3)[right]
    plain = measure(TASK, asked(known, right))
    habit = measure(TASK, asked(known + np.array([3.0, 0.0, -3.0]), right))
    assert min(each.task[CALIBRATED].score for each in (plain, habit)) > 0.6
    assert [habit.labels[name].gold for name in ("yes", "no", "maybe")] == np.bincount(right).tolist()


def test_every_label_counts_the_same() -> None:
    right = [0, 0, 0, 1]
    nats = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    rows = [sample(row.tolist(), [" true", " fake"], gold) for row, gold in zip(nats, right, strict=True)]
    found = measure(TASK, rows)
    per_byte = np.exp(nats / 5)
    p_gold = per_byte[np.arange(4), right] / per_byte.sum(1)
    assert found.task[P_GOLD].score == pytest.approx((p_gold[:3].mean() + p_gold[3]) / 2)
    # divided by the means 0.75 and 0.25: true, true, fake, fake
    assert found.items[CALIBRATED] == pytest.approx((2 / 3, 2 / 3, 0, 2))
    assert found.task[CALIBRATED].score == pytest.approx((2 / 3 + 1) / 2)


def test_a_label_that_is_never_likely_does_not_win() -> None:
    nats = np.array([[-1.0, -2.0, -2000.0], [-2.0, -1.0, -2000.0]])
    assert measure(TASK, asked(nats, np.array([0, 1]))).labels["maybe"].calibrated == 0


def test_a_model_that_always_says_the_same_loses_the_priors_accuracy() -> None:
    right = np.repeat([0, 1, 2], [60, 30, 10])
    found = measure(TASK, asked(np.tile([-0.1, -3.0, -5.0], (100, 1)), right))
    assert found.task[CALIBRATED].score == pytest.approx(1 / 3)
    assert found.labels["yes"] == Label(gold=60, predicted=100, calibrated=100)


def test_errors_count_shared_texts_once() -> None:
    texts = [" a b", " c d"]
    rows = [sample([-1.0, -2.0 - number // 4], texts) for number in range(16)]
    shared = [str(number // 4) for number in range(16)]
    apart, together = (measure(TASK, rows, clusters).task[P_GOLD].stderr for clusters in (None, shared))
    assert apart is not None
    assert together is not None
    assert together > 1.5 * apart


@pytest.mark.parametrize("texts", [["A", "B"], [" A.", " B."]])
def test_letters_of_options_are_no_labels(texts: list[str]) -> None:
    found = measure(TASK, [sample([-1.0, -2.0], texts) for _ in range(3)])
    assert CALIBRATED not in found.items
    assert not found.labels


def with_p_gold(results: Results, probabilities: dict[str, np.ndarray]) -> Results:
    items, tasks = dict(results.items), []
    for score in results.tasks:
        values = probabilities.get(score.task)
        if values is not None:
            items[score.task] = items[score.task].model_copy(
                update={"measures": {P_GOLD: tuple(values.tolist())}}
            )
            mean = Measure(score=float(values.mean()), stderr=0.01, chance=0.25)
            score = score.model_copy(update={"measures": {P_GOLD: mean}})
        tasks.append(score)
    return results.model_copy(update={"items": items, "tasks": tuple(tasks)})


def test_what_answers_do_not_show_p_gold_does() -> None:
    generator = np.random.default_rng(3)
    answers = {f"medical/g/{name}": generator.integers(0, 2, 200) for name in ("one", "two")}
    answers["medical/other/written"] = generator.integers(0, 2, 200)
    before = {name: generator.uniform(0.2, 0.5, 200) for name in ("one", "two")}
    after = {name: values + generator.normal(0.02, 0.05, 200) for name, values in before.items()}
    a, b = (
        with_p_gold(made_results(model, answers), found) for model, found in (("a", before), ("b", after))
    )
    comparison = compare(a, b)
    assert {task.verdict for task in comparison.tasks} == {"no change"}
    found = comparison.measures[P_GOLD]
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
    assert "### medical by p\\_gold" in to_markdown(comparison)


def test_p_gold_below_guessing_counts_too() -> None:
    """Count a change of p_gold below one in four, which choices of different kind or length have."""
    generator = np.random.default_rng(5)
    answers = {"general/g/one": generator.integers(0, 2, 300)}
    before = generator.uniform(0.1, 0.25, 300)
    a, b = (
        with_p_gold(made_results(model, answers), {"one": values})
        for model, values in (("a", before), ("b", before + generator.normal(0.02, 0.05, 300)))
    )
    found = compare(a, b).measures[P_GOLD]
    assert not found.no_signal
    assert found.tasks[0].verdict == "better"
    assert found.averages[0].verdict == "better"


def test_labels_are_compared_on_the_same_items_only() -> None:
    """Weights and calibration of an item depend on all items of its evaluation."""
    answers = {"medical/g/one": np.array([0, 1, 1, 0])}
    a = with_p_gold(made_results("a", answers), {"one": np.array([0.2, 0.4, 0.6, 0.7])})
    b = with_p_gold(made_results("b", answers), {"one": np.array([0.3, 0.5, 0.6, 0.9])})
    more = {"ids": (*b.items["one"].ids, "new"), "values": (*b.items["one"].values, 1.0)}
    more["measures"] = {P_GOLD: (*b.items["one"].measures[P_GOLD], 0.5)}
    larger = with_items(b, "one", **more)
    assert set(compare(a, larger).measures) == {P_GOLD}
    labels = {"labels": {"yes": Label(gold=2, predicted=2, calibrated=2)}}
    a, b, larger = (with_task(each, "one", **labels) for each in (a, b, larger))
    assert set(compare(a, b).measures) == {P_GOLD}
    assert compare(a, larger).measures == {}


def test_a_difference_of_means_has_students_interval_and_an_exact_null() -> None:
    generator = np.random.default_rng(6)
    before = generator.uniform(0.2, 0.6, 12)
    after = before + generator.normal(0.03, 0.05, 12)
    answers = {"general/g/one": generator.integers(0, 2, 12)}
    a, b = (
        with_p_gold(made_results(model, answers), {"one": values})
        for model, values in (("a", before), ("b", after))
    )
    [task] = compare(a, b).measures[P_GOLD].tasks
    change = after - before
    theirs = ttest_rel(after, before).confidence_interval(0.95)
    assert task.interval == pytest.approx((theirs.low, theirs.high))
    signs = np.array(list(itertools.product((-1, 1), repeat=12)))
    exact = float((np.abs(signs @ change / 12) >= abs(change.mean()) - 1e-12).mean())
    assert task.p == pytest.approx(exact, abs=0.015)


def test_without_measures_nothing_is_said_of_them() -> None:
    answers = {"general/g/one": np.array([0, 1, 1, 0])}
    comparison = compare(made_results("a", answers), made_results("b", answers))
    assert comparison.measures == {}
    assert "gold" not in to_markdown(comparison)
