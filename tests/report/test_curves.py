"""Smoothing and thinning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt.report.curves import change_points, smoothed, thinned


def test_smoothing_leaves_a_constant_alone_from_the_first_step() -> None:
    assert smoothed([2.5] * 7, span=5) == pytest.approx([2.5] * 7)


def test_smoothing_is_the_weighted_average_of_the_past() -> None:
    weight = 2 / (3 + 1)
    expected = (weight * 4 + weight * (1 - weight) * 1) / (weight + weight * (1 - weight))
    assert smoothed([1.0, 4.0], span=3) == pytest.approx([1.0, expected])


def test_smoothing_passes_over_what_is_not_a_number() -> None:
    assert smoothed([None, math.nan], span=3) == [None, None]
    assert smoothed([2.0, math.nan, None, 2.0], span=3) == pytest.approx([2.0] * 4)


def test_a_span_of_less_than_a_step_does_not_smooth() -> None:
    assert smoothed([1.0, 5.0, 2.0], span=0.3) == pytest.approx([1.0, 5.0, 2.0])


def test_thinning_keeps_both_ends_the_order_and_the_limit() -> None:
    points = thinned(range(12_345), float, limit=100)
    assert 2 < len(points) <= 100
    assert points[0] == 0
    assert points[-1] == 12_344
    assert points == sorted(set(points))
    assert thinned([3, 1], float, limit=100) == [3, 1]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limit", [6, 7, 50, 333])
def test_thinning_keeps_the_extremes_of_every_measure(seed: int, limit: int) -> None:
    random = np.random.default_rng(seed)
    points = list(zip(random.normal(size=2000), random.normal(size=2000), strict=True))
    kept = thinned(points, lambda point: point[0], lambda point: point[1], limit=limit)
    assert len(kept) <= limit
    assert kept == [point for point in points if point in set(kept)]
    for measure in (0, 1):
        for extreme in (min, max):
            assert extreme(point[measure] for point in kept) == extreme(point[measure] for point in points)


def test_a_single_spike_in_a_long_flat_curve_survives() -> None:
    losses = [1.0] * 200_000
    losses[123_457] = 9.0
    assert max(thinned(losses, lambda loss: loss, limit=100)) == 9.0


def test_gaps_in_a_curve_hide_no_extreme() -> None:
    losses: list[float | None] = [1.0 + 0.001 * (n % 7) for n in range(3000)]
    losses[100:900] = [None] * 800
    losses[2000], losses[2001], losses[2500] = 5.0, math.nan, -math.inf
    kept = thinned(losses, lambda loss: loss, limit=50)
    assert 5.0 in kept
    assert 1.0 in kept


def test_turns_are_where_a_curve_changes() -> None:
    assert change_points([1, 1, 1, 2, 2, 1, 1], lambda value: value) == [1, 2, 1, 1]
    assert change_points([7], lambda value: value) == [7]
    assert change_points([], lambda value: value) == []
