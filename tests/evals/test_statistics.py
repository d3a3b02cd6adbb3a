"""Intervals against closed forms, and the coverage of the bootstrap."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from evals.comparing.statistics import compare_accuracy, compare_bits_per_byte

LEVEL = {"confidence": 0.95}
OPTIONS = {**LEVEL, "seed": 5}


def test_shares_have_wilsons_interval() -> None:
    right = np.array([1.0] * 30 + [0.0] * 10)
    found = compare_accuracy(right, right, **LEVEL).before
    z, n, p = norm.ppf(0.975), 40, 0.75
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.value == 0.75
    assert found.low == pytest.approx((centre - half) / (1 + z * z / n))
    assert found.high == pytest.approx((centre + half) / (1 + z * z / n))


def test_a_difference_is_paired() -> None:
    """Forty more right answers of 400: the interval is that of the changed items alone."""
    generator = np.random.default_rng(0)
    before = generator.integers(0, 2, 400).astype(float)
    after = before.copy()
    flipped = np.flatnonzero(before == 0)[:40]
    after[flipped] = 1
    found = compare_accuracy(before, after, **LEVEL).difference
    deviation = math.sqrt(0.1 * 0.9 / 400)
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * deviation, abs=0.005)
    assert found.high == pytest.approx(0.1 + 1.96 * deviation, abs=0.005)


def test_models_with_equal_answers_may_still_differ_on_others() -> None:
    """Without a disagreement among n, the limit is z² / (n + z²) (Tango 1998)."""
    right = np.array([1.0, 0.0, 1.0, 1.0])
    found = compare_accuracy(right, right, **LEVEL).difference
    limit = norm.ppf(0.975) ** 2 / (4 + norm.ppf(0.975) ** 2)
    assert (found.value, found.low, found.high) == (0.0, pytest.approx(-limit), pytest.approx(limit))


def test_few_documents_widen_the_interval() -> None:
    """Four documents: as Student's against the normal quantile, for the spread of three."""
    nats, sizes = np.array([60.0, 70.0, 80.0, 90.0]), np.full(4, 100.0)
    found = compare_bits_per_byte((nats, sizes), (nats, sizes), **OPTIONS).before
    draws = (np.array([found.low, found.high]) - found.value) * math.log(2)
    assert draws == pytest.approx([-0.15, 0.15], abs=0.01)


def test_bits_per_byte_is_a_ratio_of_sums() -> None:
    nats, sizes = np.array([10.0, 400.0]), np.array([20.0, 300.0])
    found = compare_bits_per_byte((nats, sizes), (nats / 2, sizes), **OPTIONS)
    assert found.before.value == pytest.approx(410 / 320 / math.log(2))
    assert found.after.value == pytest.approx(205 / 320 / math.log(2))
    assert found.difference.value == pytest.approx(-205 / 320 / math.log(2))


def test_the_bootstrap_agrees_with_the_delta_method() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(50, 500, 300).astype(float)
    nats = sizes * generator.normal(0.7, 0.1, 300)
    found = compare_bits_per_byte((nats, sizes), (nats, sizes), **OPTIONS).before
    residuals = nats - nats.sum() / sizes.sum() * sizes
    deviation = math.sqrt((residuals**2).sum()) / sizes.sum() / math.log(2)
    assert found.low == pytest.approx(found.value - 1.96 * deviation, rel=0.01)
    assert found.high == pytest.approx(found.value + 1.96 * deviation, rel=0.01)


def test_pairing_makes_the_difference_sharper_than_the_values() -> None:
    generator = np.random.default_rng(2)
    sizes = np.full(100, 100.0)
    hard = generator.normal(70, 20, 100)
    found = compare_bits_per_byte((hard, sizes), (hard - generator.normal(5, 1, 100), sizes), **OPTIONS)
    assert found.difference.high - found.difference.low < (found.before.high - found.before.low) / 5


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        sizes = generator.integers(50, 150, 60).astype(float)
        nats = sizes * generator.normal(0.7, 0.2, 60)
        found = compare_bits_per_byte((nats, sizes), (nats, sizes), confidence=0.8, seed=4).before
        covered += found.low <= 0.7 / math.log(2) <= found.high
    assert 0.68 < covered / 100 < 0.92


def test_more_confidence_is_wider_and_the_seed_decides() -> None:
    generator = np.random.default_rng(4)
    before, after = ((generator.integers(20, 60, 50).astype(float), np.full(50, 50.0)) for _ in range(2))
    narrow = compare_bits_per_byte(before, after, confidence=0.5, seed=1)
    wide = compare_bits_per_byte(before, after, confidence=0.99, seed=1)
    assert wide.difference.low < narrow.difference.low < narrow.difference.high < wide.difference.high
    assert wide.before.low < narrow.before.low
    assert compare_bits_per_byte(before, after, confidence=0.5, seed=1) == narrow
    assert compare_bits_per_byte(before, after, confidence=0.5, seed=2) != narrow


def test_one_document_says_nothing_of_the_noise() -> None:
    one = (np.array([3.0]), np.array([4.0]))
    found = compare_bits_per_byte(one, one, **OPTIONS).before
    assert (found.low, found.high) == (None, None)
