"""Macro averages by hand, and their error in simulation."""

import numpy as np
import pytest
from results_made import made_results, with_task

from evals.metrics import task_weights
from evals.results import averages, macro_average


def test_a_group_weighs_as_much_as_a_single_task() -> None:
    assert task_weights(["mmlu", "mmlu", "arc", "mmlu"]).tolist() == pytest.approx(
        [1 / 6, 1 / 6, 1 / 2, 1 / 6]
    )


def test_the_average_is_the_mean_over_groups_of_the_means_over_tasks() -> None:
    made = made_results("m", {"s/g/a": [1, 0], "s/g/b": [1, 1], "s/h/c": [0, 0, 0, 1], "t/i/d": [1, 0]})
    found = averages(made.tasks)
    assert list(found) == ["s", "t"]
    assert found["s"].score == pytest.approx((0.75 + 0.25) / 2)
    assert found["s"].groups == 2
    assert found["s"].stderr == pytest.approx(np.sqrt((0.5 / 4) ** 2 + (0.25 / 2) ** 2))
    assert found["t"].score == 0.5


def test_a_task_of_one_item_leaves_the_error_unknown() -> None:
    average = macro_average(made_results("m", {"s/g/a": [1], "s/h/b": [1, 0]}).tasks)
    assert average is not None
    assert (average.score, average.stderr) == (0.75, None)


def test_perplexities_are_not_averaged_with_shares() -> None:
    made = with_task(made_results("m", {"s/g/a": [1, 0], "s/h/b": [30, 50]}), "b", higher_is_better=False)
    average = macro_average(made.tasks)
    assert average is not None
    assert (average.score, average.groups, average.excluded) == (0.5, 1, ("b",))
    assert macro_average([made.tasks[1]]) is None
    assert averages([made.tasks[1]]) == {}


def test_the_error_is_the_spread_of_the_average() -> None:
    generator = np.random.default_rng(0)
    chances = {"s/g/a": 0.3, "s/g/b": 0.6, "s/h/c": 0.8}
    scores, errors = [], []
    for _ in range(1500):
        made = made_results("m", {name: generator.random(40) < chance for name, chance in chances.items()})
        average = macro_average(made.tasks)
        assert average is not None
        scores.append(average.score)
        errors.append(average.stderr)
    assert np.std(scores) == pytest.approx(np.mean(errors), rel=0.05)
