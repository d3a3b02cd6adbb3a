"""Intervals and tests against closed forms, counting and simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_rel

from evals.comparing.statistics import (
    compare_accuracy,
    compare_bits_per_byte,
    compare_means,
    mcnemar,
    minimum_detectable_effect,
    power,
    score_interval,
)

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


def test_means_have_students_interval_and_the_difference_is_paired() -> None:
    generator = np.random.default_rng(4)
    before = generator.uniform(0.2, 0.6, 12)
    after = before + generator.normal(0.03, 0.05, 12)
    found = compare_means(before, after, confidence=0.9)
    theirs = ttest_rel(after, before).confidence_interval(0.9)
    assert found.difference.value == pytest.approx(after.mean() - before.mean())
    assert (found.difference.low, found.difference.high) == pytest.approx((theirs.low, theirs.high))
    for estimate, scores in ((found.before, before), (found.after, after)):
        theirs = ttest_1samp(scores, 0).confidence_interval(0.9)
        assert estimate.value == pytest.approx(scores.mean())
        assert (estimate.low, estimate.high) == pytest.approx((theirs.low, theirs.high))


def test_a_single_score_has_no_interval() -> None:
    found = compare_means(np.array([0.25]), np.array([0.5]), **LEVEL)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0.25, None, None)


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


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 0), (5, 1), (2, 2), (1, 6)])
def test_mcnemar_counts_the_tosses_at_least_as_uneven(won: int, lost: int) -> None:
    tosses = list(product((-1, 1), repeat=won + lost))
    as_uneven = sum(abs(sum(toss)) >= abs(won - lost) for toss in tosses)
    assert mcnemar(won, lost) == pytest.approx(as_uneven / len(tosses))


@pytest.mark.parametrize(("n", "won", "lost"), [(50, 12, 2), (30, 0, 4), (25, 6, 6), (40, 0, 0), (10, 9, 0)])
def test_the_limits_are_where_the_score_test_turns(n: int, won: int, lost: int) -> None:
    """The nuisance parameter by brute force: the likeliest chance to lose an item, on a fine grid."""

    def score(difference: float) -> float:
        chance_lost = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
        chance_won = chance_lost + difference
        agree = 1 - chance_won - chance_lost
        likelihood = won * np.log(chance_won) + lost * np.log(chance_lost) + (n - won - lost) * np.log(agree)
        disagree = 2 * chance_lost[np.argmax(likelihood)] + difference
        return (won - lost - n * difference) / math.sqrt(n * (disagree - difference**2))

    low, high = score_interval(n, won, lost, 0.9)
    z = norm.ppf(0.95)
    assert score(low) == pytest.approx(z, abs=2e-3)
    assert score(high) == pytest.approx(-z, abs=2e-3)


def test_the_interval_agrees_with_the_test_without_correction() -> None:
    """It holds zero if and only if McNemar's chi-square does not reject."""
    z = norm.ppf(0.975)
    for won, lost in product(range(15), repeat=2):
        low, high = score_interval(60, won, lost, 0.95)
        rejected = won != lost and (won - lost) ** 2 / (won + lost) > z**2
        assert (low > 0 or high < 0) == rejected


def test_swapped_models_swap_the_interval() -> None:
    low, high = score_interval(50, 12, 2, 0.95)
    assert score_interval(50, 2, 12, 0.95) == pytest.approx((-high, -low))


def test_models_that_agree_everywhere_may_still_differ_on_other_items() -> None:
    low, high = score_interval(20, 0, 0, 0.95)
    assert high == pytest.approx(norm.ppf(0.975) ** 2 / (20 + norm.ppf(0.975) ** 2), abs=1e-6)
    assert low == -high
    assert score_interval(20, 20, 0, 0.95)[1] == 1.0
    assert score_interval(20, 0, 20, 0.95)[0] == -1.0


@pytest.mark.parametrize(
    ("n", "won", "lost"), [(20, 0.1, 0.1), (50, 0.02, 0.02), (100, 0.15, 0.05), (400, 0.06, 0.02)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int, won: float, lost: float) -> None:
    counts = np.random.default_rng(0).multinomial(n, [won, lost, 1 - won - lost], size=3000)
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    covered = 0
    for (b, c, _), drawn in zip(kinds, times, strict=True):
        low, high = score_interval(n, int(b), int(c), 0.95)
        covered += drawn * (low <= won - lost <= high)
    assert 0.935 < covered / 3000 < 0.99


@pytest.mark.parametrize(
    ("n", "disagreement", "difference"), [(40, 0.3, 0.2), (200, 0.2, 0.09), (150, 0.05, 0.05)]
)
def test_power_is_how_often_the_test_rejects(n: int, disagreement: float, difference: float) -> None:
    won, lost = (disagreement + difference) / 2, (disagreement - difference) / 2
    counts = np.random.default_rng(1).multinomial(n, [won, lost, 1 - disagreement], size=4000)
    rejected = np.mean([mcnemar(int(b), int(c)) <= 0.05 for b, c, _ in counts])
    assert power(n, disagreement, difference, 0.05) == pytest.approx(rejected, abs=0.025)


def test_no_difference_is_found_no_more_often_than_the_level() -> None:
    for n in (10, 50, 400):
        assert 0 < power(n, 0.3, 0.0, 0.05) <= 0.05


def test_the_visible_difference_has_the_power_wanted() -> None:
    for n, disagreement in ((100, 0.3), (1000, 0.1), (60, 0.0)):
        found = minimum_detectable_effect(n, disagreement, level=0.05, power_wanted=0.8)
        assert found is not None
        assert power(n, max(found, disagreement), found, 0.05) == pytest.approx(0.8, abs=1e-3)


def test_the_visible_difference_is_near_the_large_sample_formula() -> None:
    """Connor 1987, solved for the difference."""
    n, disagreement = 5000, 0.2
    first, second = norm.ppf(0.975), norm.ppf(0.8)
    large = math.sqrt(disagreement) * (math.sqrt(n) * first + second * math.sqrt(n + second**2 - first**2))
    assert minimum_detectable_effect(n, disagreement, level=0.05, power_wanted=0.8) == pytest.approx(
        large / (n + second**2), rel=0.03
    )


def test_a_stricter_level_and_more_power_need_larger_differences() -> None:
    plain = minimum_detectable_effect(300, 0.2, level=0.05, power_wanted=0.8)
    assert minimum_detectable_effect(300, 0.2, level=0.001, power_wanted=0.8) > plain  # type: ignore[operator]
    assert minimum_detectable_effect(300, 0.2, level=0.05, power_wanted=0.95) > plain  # type: ignore[operator]


def test_five_items_show_nothing() -> None:
    assert minimum_detectable_effect(5, 0.5, level=0.05, power_wanted=0.8) is None
