"""De Lange's figures against their definitions, worked out by hand and by brute force."""

import random

import pytest

from cpt.monitor.continual import (
    continual,
    min_accuracy,
    windowed_forgetting,
    windowed_plasticity,
    worst_case_accuracy,
)
from cpt.monitor.reading import Reading

CURVE = [0.5, 0.25, 0.375, 0.75, 0.625]


def test_min_accuracy_is_the_mean_of_the_worst_moments() -> None:
    assert min_accuracy([[0.5, 0.25, 0.75], [0.75, 0.5]]) == (0.25 + 0.5) / 2


def test_worst_case_accuracy_weighs_what_is_learned_against_the_worst_of_the_rest() -> None:
    others = [[0.5, 0.25, 0.75], [0.75, 0.5]]
    assert worst_case_accuracy(0.9, others) == pytest.approx(0.9 / 3 + 2 / 3 * 0.375)
    assert worst_case_accuracy(0.9, []) == 0.9
    assert worst_case_accuracy(0.6, [[0.6]]) == pytest.approx(0.6)


def test_windows_bound_how_far_apart_the_two_readings_are() -> None:
    assert windowed_forgetting(CURVE, 2) == 0.25
    assert windowed_plasticity(CURVE, 2) == 0.375
    assert windowed_plasticity(CURVE, 3) == 0.5
    assert windowed_forgetting(CURVE, 1) == windowed_plasticity(CURVE, 1) == 0


def test_a_curve_that_only_rises_forgets_nothing() -> None:
    assert windowed_forgetting([0.1, 0.2, 0.3], 3) == 0
    assert windowed_plasticity([0.3, 0.2, 0.1], 3) == 0


@pytest.mark.parametrize("window", [2, 3, 7, 40])
def test_windows_against_all_pairs(window: int) -> None:
    chance = random.Random(window)
    curve = [chance.random() for _ in range(30)]
    pairs = [(a, b) for b in range(30) for a in range(max(0, b - window + 1), b)]
    assert windowed_forgetting(curve, window) == max(0.0, *(curve[a] - curve[b] for a, b in pairs))
    assert windowed_plasticity(curve, window) == max(0.0, *(curve[b] - curve[a] for a, b in pairs))


def reading(probe: str, step: int, value: float, kind: str = "task") -> Reading:
    unit = "accuracy" if kind == "task" else "bits per byte"
    return Reading(step, step, probe, kind, unit, value, 0.1, 0.0, 0.1)  # type: ignore[arg-type]


def test_each_task_of_a_run_is_weighed_against_the_others() -> None:
    readings = [reading("arc", step, value) for step, value in enumerate([0.2, 0.5, 0.4])]
    readings += [reading("piqa", step, value) for step, value in enumerate([0.3, 0.6, 0.9])]
    readings += [reading("general", 0, 1.0, "text")]
    found = continual(readings)
    assert set(found) == {"arc", "piqa"}
    assert found["arc"].min_acc == 0.4  # the reading before training is none of its moments
    assert found["arc"].wc_acc == pytest.approx(0.4 / 2 + 0.6 / 2)
    assert found["piqa"].wc_acc == pytest.approx(0.9 / 2 + 0.4 / 2)
    assert found["arc"].windowed_forgetting == pytest.approx(0.1)
    assert found["piqa"].windowed_plasticity == pytest.approx(0.6)


def test_a_task_that_was_read_once_has_figures_too() -> None:
    found = continual([reading("arc", 0, 0.5)])["arc"]
    assert (found.min_acc, found.wc_acc, found.windowed_forgetting) == (0.5, 0.5, 0)
