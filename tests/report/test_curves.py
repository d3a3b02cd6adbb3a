"""Smoothing and thinning."""

from __future__ import annotations

import math

import pytest

from cpt.report.curves import smoothed, thinned


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


def test_thinning_keeps_both_ends_and_the_order() -> None:
    points = thinned(range(12_345), limit=100)
    assert len(points) == 100
    assert points[0] == 0
    assert points[-1] == 12_344
    assert points == sorted(set(points))
    assert thinned([3, 1], limit=100) == [3, 1]
