"""The gauge: last values, and the time left at the pace of this process."""

from __future__ import annotations

import pytest

from cpt.recipe.events import EtaEstimator, StageAdvanced


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def advance(gauge: EtaEstimator, done: int, total: int = 20, unit: str = "steps", **facts: float) -> None:
    gauge.update(StageAdvanced("pretrain", done, total, unit, facts))


def test_time_left_follows_the_pace_since_the_first_update() -> None:
    clock = Clock()
    gauge = EtaEstimator(clock)
    advance(gauge, 10)
    assert gauge.seconds_left is None
    clock.now += 8
    advance(gauge, 14)
    assert gauge.seconds_left == pytest.approx(2.0 * 6)


def test_a_new_phase_starts_a_new_pace() -> None:
    clock = Clock()
    gauge = EtaEstimator(clock)
    advance(gauge, 1)
    clock.now += 100
    advance(gauge, 2)
    advance(gauge, 0, 50, "documents")
    assert gauge.seconds_left is None
    clock.now += 1
    advance(gauge, 25, 50, "documents")
    assert gauge.seconds_left == pytest.approx(1.0)


def test_facts_stay_until_they_are_told_again() -> None:
    gauge = EtaEstimator(Clock())
    advance(gauge, 1, loss=3.0, domain=1.1)
    advance(gauge, 2, loss=2.5)
    assert gauge.facts == {"loss": 2.5, "domain": 1.1}
