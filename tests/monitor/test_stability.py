import pytest

from cpt.monitor.stability import Point, stability_gap


def curve(*values: float, tokens: int = 100) -> list[Point]:
    return [Point(step, step * tokens, value) for step, value in enumerate(values)]


def test_a_v_gives_exact_figures() -> None:
    gap = stability_gap(curve(1.0, 1.5, 1.25, 1.0, 0.5))
    assert (gap.before, gap.end, gap.depth, gap.permanent) == (1.0, 0.5, 0.5, -0.5)
    assert (gap.trough_step, gap.trough_tokens, gap.recovery_step, gap.recovery_tokens) == (1, 100, 3, 300)
    assert gap.area == pytest.approx(100 * (0.25 + 0.375 + 0.125 + 0.0))


def test_a_monotone_rise_is_all_forgetting_and_no_gap() -> None:
    gap = stability_gap(curve(1.0, 1.25, 1.5))
    assert gap.depth - gap.permanent == 0
    assert gap.recovery_step is None
    assert gap.trough_step == 2


def test_a_fall_has_no_depth_no_area_and_nothing_to_recover() -> None:
    gap = stability_gap(curve(1.0, 0.5, 0.25))
    assert (gap.depth, gap.area, gap.trough_step, gap.recovery_step) == (0.0, 0.0, 0, None)


def test_tolerance_decides_what_counts_as_recovered() -> None:
    points = curve(1.0, 1.5, 1.125, 1.0)
    assert stability_gap(points).recovery_step == 3
    assert stability_gap(points, tolerance=0.125).recovery_step == 2
    assert stability_gap(points, tolerance=0.5).recovery_step is None  # nothing rose beyond it


def test_one_point_is_a_flat_curve() -> None:
    gap = stability_gap(curve(1.0))
    assert (gap.depth, gap.area, gap.permanent, gap.recovery_step) == (0.0, 0.0, 0.0, None)


def test_area_weighs_by_tokens_not_by_readings() -> None:
    sparse = [Point(0, 0, 1.0), Point(1, 100, 2.0), Point(2, 300, 1.0)]
    assert stability_gap(sparse).area == pytest.approx(50 + 100)
