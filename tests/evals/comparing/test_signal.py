"""Which tasks tell anything: chance, majorities, groups, and that the choice favours no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from results_made import made_results, with_items, with_task

from evals.comparing.comparison import Comparison, compare
from evals.comparing.leaderboard import leaderboard
from evals.comparing.retention import retentions
from evals.comparing.tables import to_markdown
from evals.results import Results


def answers(n: int, right: int) -> list[int]:
    """The first so many right, spread over the items alike for every number."""
    order = np.random.default_rng(9).permutation(n)
    return [int(place < right) for place in order]


def two(right: tuple[int, int], n: int = 100, **changes: Any) -> Comparison:
    """A task of four choices beside one that both models master."""
    sides = [
        with_task(
            made_results(model, {"s/t/t": answers(n, count), "s/easy/easy": answers(50, 40)}),
            "t",
            **{"chance": 0.25, **changes},
        )
        for model, count in zip("ab", right, strict=True)
    ]
    return compare(*sides, resamples=200)


def silent(found: Comparison) -> list[str]:
    return [row.task for row in found.no_signal]


@pytest.mark.parametrize(
    ("right", "tells"), [((25, 22), False), ((28, 31), False), ((25, 60), True), ((60, 25), True)]
)
def test_a_task_that_both_models_guess_is_listed_and_counted_nowhere(
    right: tuple[int, int], tells: bool
) -> None:
    found = two(right)
    assert silent(found) == ([] if tells else ["t"])
    assert {task.task for task in found.tasks} == ({"t", "easy"} if tells else {"easy"})
    (average,) = found.averages
    assert (average.tasks, average.of) == (2 if tells else 1, 2)
    if not tells:
        assert average.a == pytest.approx(0.8)
        (row,) = found.no_signal
        assert (row.a, row.b, row.guessing) == (right[0] / 100, right[1] / 100, 0.25)


def test_the_choice_is_the_same_whichever_model_comes_first() -> None:
    for right in ((25, 38), (30, 34), (20, 45)):
        assert silent(two(right)) == silent(two(right[::-1]))


@pytest.mark.parametrize("right", [(60, 0), (0, 60)])
def test_a_task_that_one_model_has_lost_altogether_is_counted(right: tuple[int, int]) -> None:
    """The mean of both is below the majority's share; the model that knew the task was far above it."""
    found = two(right, majority=0.35)
    assert silent(found) == []
    verdict = {task.task: task.verdict for task in found.tasks}["t"]
    assert verdict == ("worse" if right[0] else "better")


def test_a_group_that_one_model_has_lost_altogether_is_counted() -> None:
    def side(model: str, right: int) -> Results:
        made = made_results(model, {f"s/mmlu/m{i}": answers(10, right) for i in range(20)})
        for place in range(20):
            made = with_task(made, f"m{place}", chance=0.35)
        return made

    found = compare(side("a", 6), side("b", 0), resamples=500)
    assert silent(found) == []
    assert [group.verdict for group in found.groups] == ["worse"]


def test_labels_are_held_against_their_majority() -> None:
    """Right of 55 of 100 where one label is right of 55: far above chance, and no signal."""
    assert silent(two((55, 54), chance=0.333)) == []
    assert silent(two((55, 54), chance=0.333, majority=0.552)) == ["t"]
    assert two((55, 54), chance=0.333, majority=0.552).no_signal[0].guessing == 0.552


@pytest.mark.parametrize(
    ("aggregation", "constant"),
    [
        ("balanced_accuracy", 0.5),
        ("weighted_f1", 0.45),
        ("macro_f1", 0.375),
        ("matthews_corrcoef", 0.0),
        ("accuracy_and_f1", 0.525),
        ("f1_and_mcc", 0.225),
    ],
)
def test_one_label_for_everything_is_guessing_by_every_metric_of_labels(
    aggregation: str, constant: float
) -> None:
    gold = ["yes"] * 60 + ["no"] * 40

    def side(model: str, predicted: Sequence[str]) -> Results:
        values = tuple(zip(gold, predicted, strict=True))
        return with_items(
            made_results(model, {"s/t/t": [0.0] * 100}), "t", values=values, aggregation=aggregation
        )

    always, good = side("a", ["yes"] * 100), side("b", gold)
    (row,) = compare(always, always, resamples=50).no_signal
    assert row.guessing == pytest.approx(constant)
    assert row.a == pytest.approx(constant)
    assert compare(always, good, resamples=50).no_signal == ()
    if constant == 0:  # a correlation of 0.07 is not zero, and no more than chance
        luck = side("a", [*["yes"] * 40, *["no"] * 20, *["yes"] * 24, *["no"] * 16])
        assert silent(compare(luck, luck, resamples=50)) == ["t"]


def test_one_label_for_everything_is_guessing_by_the_mean_of_groups_f1() -> None:
    values = tuple(("h", gold, 1.0) for gold in [1.0] * 60 + [0.0] * 40)
    always = with_items(made_results("a", {"s/t/t": [0.0] * 100}), "t", values=values, aggregation="mean_f1")
    (row,) = compare(always, always, resamples=50).no_signal
    assert row.guessing == pytest.approx(0.75)


def test_where_nothing_is_right_by_chance_any_right_answer_tells() -> None:
    for chance in (0.0, None):
        assert silent(two((0, 0), chance=chance)) == ["t"]
        assert silent(two((0, 1), chance=chance)) == []


def test_subjects_of_a_group_are_tested_together() -> None:
    """Five items can show no skill; forty subjects of five can, and stay together."""

    def side(model: str, right: Sequence[int]) -> Results:
        made = made_results(model, {f"s/mmlu/m{i}": answers(5, count) for i, count in enumerate(right)})
        for place in range(len(right)):
            made = with_task(made, f"m{place}", chance=0.25)
        return made

    skilled, guessing = [2, 3] * 20, [1, 1, 2, 1] * 10
    assert silent(compare(side("a", skilled), side("b", skilled), resamples=50)) == []
    assert len(silent(compare(side("a", guessing), side("b", guessing), resamples=50))) == 40


def test_a_task_of_another_kind_does_not_speak_for_its_group() -> None:
    """ROUGE-L is never zero: it says nothing of the letters beside it."""
    sides = []
    for model in "ab":
        made = made_results(model, {"s/g/letters": answers(80, 20), "s/g/texts": [0.2, 0.1, 0.15] * 10})
        sides.append(with_task(with_task(made, "letters", chance=0.25), "texts", metric="rougeL"))
    assert silent(compare(*sides, resamples=50)) == ["letters"]


def test_a_suite_without_signal_says_so_instead_of_an_average() -> None:
    sides = [
        with_task(
            made_results(model, {"medical/t/t": answers(60, 15), "general/e/e": answers(50, 40)}),
            "t",
            chance=0.25,
        )
        for model in "ab"
    ]
    found = compare(*sides, resamples=50)
    said = "medical: neither model is above guessing in any task, so the suite has no average."
    assert [average.suite for average in found.averages] == ["general"]
    assert found.notes == (said,)
    assert retentions(found) == ()
    text = to_markdown(found)
    assert "### medical: no signal" in text
    assert said in text
    assert "| t | acc | 60 |" in text
    (medical, _) = leaderboard(sides, resamples=50)  # ranks are by the averages of all tasks
    assert medical.standings[0].average.score == 0.25


def test_a_lower_perplexity_needs_no_guessing() -> None:
    sides = [
        with_task(made_results(model, {"s/p/p": [30, 40]}), "p", higher_is_better=False) for model in "ab"
    ]
    assert silent(compare(*sides, resamples=50)) == []


def test_the_choice_of_tasks_makes_no_verdict_more_likely() -> None:
    """Forty tasks that both models guess: false verdicts stay below 5%, as few tasks are taken for more."""
    generator = np.random.default_rng(2)
    alarms, kept = 0, 0
    for _ in range(60):
        sides = []
        for model in "ab":
            made = made_results(model, {f"s/t{i}/t{i}": generator.random(100) < 0.25 for i in range(40)})
            chances = tuple(task.model_copy(update={"chance": 0.25}) for task in made.tasks)
            sides.append(made.model_copy(update={"tasks": chances}))
        found = compare(*sides, resamples=10)
        alarms += any(task.verdict != "no change" for task in found.tasks)
        kept += len(found.tasks)
    assert alarms <= 5
    assert kept / (60 * 40) < 0.04
