"""Schedules against their own words, and counts of readings against counting."""

import pytest

from cpt.monitor.schedule import AtSteps, Moment, Regular, When


def steps(when: When, total: int, per_step: int = 100) -> list[int]:
    at = [Moment(step, step * per_step) for step in range(total + 1)]
    return [now.step for before, now in zip([at[0], *at], at, strict=False) if when.due(before, now)]


def test_readings_are_dense_then_regular() -> None:
    assert steps(Regular(10), 44) == [0, 1, 2, 4, 8, 10, 20, 30, 40]
    assert steps(Regular(1), 3) == [0, 1, 2, 3]
    assert steps(Regular(10), 3) == [0, 1, 2]


def test_tokens_count_as_well() -> None:
    assert steps(Regular(1000, "tokens"), 35, per_step=100) == [0, 1, 2, 4, 8, 10, 20, 30]
    assert steps(Regular(1000, "tokens"), 12, per_step=300) == [0, 1, 2, 4, 7, 10]


def test_given_steps_are_as_given() -> None:
    assert steps(AtSteps((3, 5)), 9) == [3, 5]


@pytest.mark.parametrize("when", [Regular(7), AtSteps((0, 2, 9)), Regular(100)], ids=str)
@pytest.mark.parametrize("total", [1, 6, 7, 8, 50])
def test_the_readings_between_are_those_that_come(when: When, total: int) -> None:
    dense, regular = when.between(Moment(total, total * 100))
    assert dense + regular == sum(0 < step < total for step in steps(when, total))


def test_dense_readings_are_counted_apart() -> None:
    assert Regular(10).between(Moment(44, 4_400)) == (4, 4)
    assert Regular(10).between(Moment(3, 300)) == (2, 0)
    assert Regular(1000, "tokens").between(Moment(35, 3_500)) == (4, 3)
    assert AtSteps((0, 2, 9)).between(Moment(50, 5_000)) == (0, 2)


@pytest.mark.parametrize("total", [1, 6, 7, 8, 50])
def test_by_tokens_the_readings_between_are_counted_to_one(total: int) -> None:
    when = Regular(650, "tokens")
    between = sum(0 < step < total for step in steps(when, total))
    assert between <= sum(when.between(Moment(total, total * 100))) <= between + 1
