"""Closed forms, against the published values."""

import math
from itertools import pairwise

import pytest

from cpt.training.schedules import curves

PEAK, CONSTANT, FLOOR = 3e-4, 1.65e-4, 3e-5
QUARTERS = (0.25, 0.5, 0.75)


@pytest.mark.parametrize(
    ("name", "high", "low", "expected"),
    [
        ("inverse-sqrt", PEAK, CONSTANT, [2.1004e-4, 1.8563e-4, 1.7302e-4]),
        ("cosine", PEAK, CONSTANT, [2.8023e-4, 2.325e-4, 1.8477e-4]),
        ("exponential", CONSTANT, FLOOR, [1.0774e-4, 7.0356e-5, 4.5942e-5]),
        ("1-sqrt", 1.0, 0.0, [0.5, 0.2929, 0.1340]),
        ("rex", 1.0, 0.0, [0.8571, 0.6667, 0.4]),
        ("linear", 1.0, 0.0, [0.75, 0.5, 0.25]),
    ],
)
def test_published_values(name: str, high: float, low: float, expected: list[float]) -> None:
    found = [curves.FALLS[name](t, high, low) for t in QUARTERS]
    assert found == pytest.approx(expected, abs=5e-5 * high)


@pytest.mark.parametrize(("tokens", "expected"), [(1e9, 0.015134), (1e10, 0.004677), (1e11, 0.001445)])
def test_power_law_with_128_sequences(tokens: float, expected: float) -> None:
    assert curves.power(tokens, 128, 4.6, -0.51) == pytest.approx(expected, abs=5e-7)


def test_power_law_is_proportional_to_the_batch_and_unbounded_at_the_start() -> None:
    assert curves.power(1e9, 256, 4.6, -0.51) == 2 * curves.power(1e9, 128, 4.6, -0.51)
    assert curves.power(0, 128, 4.6, -0.51) == math.inf


@pytest.mark.parametrize("name", curves.FALLS)
def test_every_fall_goes_from_high_to_low_and_never_rises(name: str) -> None:
    fall = curves.FALLS[name]
    rates = [fall(t / 1000, PEAK, FLOOR) for t in range(1001)]
    assert (rates[0], rates[-1]) == pytest.approx((PEAK, FLOOR))
    assert all(after <= before for before, after in pairwise(rates))


@pytest.mark.parametrize("name", curves.FALLS)
def test_every_fall_between_equal_rates_is_flat(name: str) -> None:
    assert [curves.FALLS[name](t, PEAK, PEAK) for t in (0, 0.3, 1)] == pytest.approx([PEAK] * 3)
