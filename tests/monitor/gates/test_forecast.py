"""The forecast of a rise: exact on a line, with a line's error."""

import math
import random

import pytest

from cpt.monitor.gates.rise import forecast


def test_the_forecast_is_exact_on_a_line() -> None:
    progress = [0.5, 0.6, 0.8]
    worse = [0.1 + 0.02 * p for p in progress]
    ahead = forecast(progress, worse, [0.0] * 3)
    assert ahead.worse == pytest.approx(0.12)
    assert ahead.error == 0
    near = forecast([p / 10 for p in progress], worse, [0.0] * 3)
    assert near.worse == pytest.approx(0.1 + 0.02 * 2 * 0.8)  # no further than the run is old


def test_the_forecasts_error_is_that_of_a_line() -> None:
    chance, progress = random.Random(1), [0.2, 0.25, 0.3, 0.35]
    ends = [forecast(progress, [chance.gauss(0, 1) for _ in progress], [1.0] * 4) for _ in range(4000)]
    spread = math.sqrt(sum(end.worse**2 for end in ends) / len(ends))
    assert spread == pytest.approx(ends[0].error, rel=0.05)


def test_two_readings_have_no_trend() -> None:
    assert math.isnan(forecast([0.0, 0.1, 0.2], [0.0, 1.0, 2.0], [0.0] * 3).worse)
