"""McNemar's test, the interval and the power, against counting, likelihoods and simulation."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from evals.comparing.statistics import mcnemar, minimum_detectable_effect, power, score_interval


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
