"""The figures of a curve: exact ones without noise, and none that noise alone makes."""

import math
import random

import numpy as np
import pytest

from cpt.monitor.reading import Kind, Reading, Unit
from cpt.monitor.stability import Point, StabilityGap, stability, stability_gap


def curve(*values: float, tokens: int = 100, error: float = 0.0) -> list[Point]:
    return [
        Point(step, step * tokens, v, v - values[0], error if step else 0.0) for step, v in enumerate(values)
    ]


def noisy(rises: list[float], error: float, chance: random.Random) -> list[Point]:
    """Readings of these rises with an independent normal error each."""
    worse = [0.0, *(rise + chance.gauss(0, error) for rise in rises[1:])]
    return [Point(step, step * 100, 1 + w, w, error if step else 0.0) for step, w in enumerate(worse)]


def sampled(spread: float, documents: int, readings: int, chance: np.random.Generator) -> list[Point]:
    """Readings of the same documents, each of which changes in its own way: errors that last."""
    changes = chance.normal(0, spread / readings**0.5, (readings - 1, documents)).cumsum(axis=0)
    errors = changes.std(axis=1, ddof=1) / documents**0.5
    rises = zip(changes.mean(axis=1).tolist(), errors.tolist(), strict=True)
    return [Point(0, 0, 1.0, 0.0), *(Point(n, n * 100, 1 + w, w, e) for n, (w, e) in enumerate(rises, 1))]


def test_a_v_gives_exact_figures() -> None:
    gap = stability_gap(curve(1.0, 1.5, 1.25, 1.0, 0.5))
    assert (gap.before, gap.end, gap.depth, gap.permanent) == (1.0, 0.5, 0.5, -0.5)
    assert (gap.trough_step, gap.trough_tokens, gap.recovery_step, gap.recovery_tokens) == (1, 100, 3, 300)
    assert gap.area == pytest.approx(100 * (0.25 + 0.375 + 0.125 + 0.0))
    assert (gap.gap, gap.forgotten) == (True, False)


def test_a_monotone_rise_is_all_forgetting_and_no_gap_that_closes() -> None:
    gap = stability_gap(curve(1.0, 1.25, 1.5))
    assert gap.depth - gap.permanent == 0
    assert gap.recovery_step is None
    assert gap.trough_step == 2
    assert gap.forgotten


def test_a_fall_has_no_depth_no_area_and_nothing_to_recover() -> None:
    gap = stability_gap(curve(1.0, 0.5, 0.25))
    assert (gap.depth, gap.area, gap.trough_step, gap.recovery_step) == (0.0, 0.0, 0, None)
    assert (gap.gap, gap.forgotten) == (False, False)


def test_tolerance_decides_what_counts_as_recovered() -> None:
    points = curve(1.0, 1.5, 1.125, 1.0)
    assert stability_gap(points).recovery_step == 3
    assert stability_gap(points, tolerance=0.125).recovery_step == 2
    assert stability_gap(points, tolerance=0.5).recovery_step is None  # nothing rose beyond it


def test_one_point_is_a_flat_curve() -> None:
    gap = stability_gap(curve(1.0))
    assert (gap.depth, gap.area, gap.permanent, gap.recovery_step) == (0.0, 0.0, 0.0, None)


def test_area_weighs_by_tokens_not_by_readings() -> None:
    sparse = [Point(0, 0, 1.0, 0.0), Point(1, 100, 2.0, 1.0, 0.1), Point(2, 300, 1.0, 0.0, 0.1)]
    gap = stability_gap(sparse)
    assert gap.area == pytest.approx(50 + 100)
    assert gap.area_error == pytest.approx(150 * 0.1)  # the middle reading stands for half of both spans


def test_a_rise_within_its_interval_is_shown_and_does_not_count() -> None:
    gap = stability_gap(curve(1.0, 1.03, 1.0, error=0.01))
    assert gap.depth == pytest.approx(0.03)
    assert gap.depth_error == 0.01
    assert (gap.gap, gap.area, gap.recovery_step) == (False, 0.0, None)
    assert stability_gap(curve(1.0, 1.06, 1.0, error=0.01)).gap


def test_the_trough_is_where_the_rise_is_known_not_where_a_poor_reading_is_high() -> None:
    points = [Point(0, 0, 1, 0.0), Point(1, 1, 1.05, 0.05, 0.002), Point(2, 2, 1.06, 0.06, 0.1)]
    assert stability_gap(points).trough_step == 1


def test_back_within_a_standard_error_is_recovered() -> None:
    points = curve(1.0, 1.5, 1.009, error=0.01)
    assert stability_gap(points).recovery_step == 2
    assert stability_gap(curve(1.0, 1.5, 1.011, error=0.01)).recovery_step is None


def test_unknown_errors_take_figures_as_they_are() -> None:
    gap = stability_gap(curve(1.0, 1.5, 1.0, error=math.nan))
    assert (gap.gap, gap.depth, gap.depth_error, gap.permanent_error) == (True, 0.5, None, None)


@pytest.mark.parametrize("kind", ["independent", "lasting"])
def test_noise_alone_alarms_in_less_than_one_run_in_a_hundred(kind: str) -> None:
    chance, documents, alarms, probes = random.Random(7), np.random.default_rng(7), 0, 5
    for _ in range(1000):
        curves = [
            noisy([0.0] * 30, 0.004, chance) if kind == "independent" else sampled(0.02, 30, 30, documents)
            for _ in range(probes)
        ]
        gaps = [stability_gap(points, 0.001, probes) for points in curves]
        alarms += any(gap.gap or gap.forgotten for gap in gaps)
    assert alarms < 10


def test_a_planted_forgetting_is_found() -> None:
    chance, found = random.Random(3), 0
    rises = [0.02 * min(1.0, step / 10) for step in range(30)]
    for _ in range(300):
        gap = stability_gap(noisy(rises, 0.004, chance), 0.001, probes=5)
        found += gap.forgotten
        assert gap.permanent_error == 0.004
    assert found > 0.9 * 300
    assert all(stability_gap(noisy(rises, 0.002, chance), 0.001, probes=5).forgotten for _ in range(300))


def reading(kind: Kind, unit: Unit, step: int, value: float, rise: float) -> Reading:
    return Reading(step, step * 10, kind, kind, unit, value, 0.0, rise, 0.0)


def test_an_accuracy_is_worse_when_it_falls_and_drift_is_no_gap() -> None:
    readings = [
        reading("task", "accuracy", step, 0.5 + rise, rise) for step, rise in enumerate((0.0, -0.125, 0.125))
    ]
    readings += [reading("drift", "nats per token", step, step, step) for step in range(3)]
    found = stability(readings, 0.0)
    assert list(found) == ["task"]
    gap = found["task"]
    assert isinstance(gap, StabilityGap)
    assert (gap.depth, gap.permanent, gap.end, gap.recovery_step) == (0.125, -0.125, 0.625, 2)


def test_a_model_that_has_diverged_has_forgotten() -> None:
    assert stability_gap(curve(1.0, 1.1, math.nan)).forgotten
