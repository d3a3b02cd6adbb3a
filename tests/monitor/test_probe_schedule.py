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
def test_what_is_left_is_what_comes(when: When, total: int) -> None:
    end = Moment(total, total * 100)
    due = steps(when, total)
    for step in range(total + 1):
        left = sum(step < each < total for each in due)
        assert when.left(Moment(step, step * 100), end) == left


@pytest.mark.parametrize("total", [1, 6, 7, 8, 50])
def test_of_tokens_what_is_left_is_reckoned_to_one_reading(total: int) -> None:
    when, end = Regular(650, "tokens"), Moment(total, total * 100)
    due = steps(when, total)
    for step in range(total + 1):
        left = sum(step < each < total for each in due)
        assert left <= when.left(Moment(step, step * 100), end) <= left + 1
