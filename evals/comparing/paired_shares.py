"""Right or wrong, two models on the same items: exact test, interval, and what a task of that size can see.

Only items on which the models disagree tell them apart. Of n items `won` are right under the second model
alone and `lost` under the first alone; the difference of the shares of right answers is (won - lost) / n.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, ndtri
from scipy.stats import binom

_TINY = 1e-9


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test: under no difference a disagreement is a toss of a coin."""
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def score_interval(n: int, won: int, lost: int, confidence: float) -> tuple[float, float]:
    """Interval of the difference: every value that a score test does not reject.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17. Unlike the bootstrap it has a width where the
    models (nearly) always agree.
    """
    z = float(ndtri((1 + confidence) / 2))
    return -_upper_limit(n, lost, won, z), _upper_limit(n, won, lost, z)


def _upper_limit(n: int, won: int, lost: int, z: float) -> float:
    def excess(difference: float) -> float:
        """Positive where `difference` is rejected as too large."""
        return n * difference - (won - lost) - z * _deviation(n, won, lost, difference)

    observed = (won - lost) / n
    return 1.0 if excess(1.0) <= 0 else float(brentq(excess, observed + _TINY * (1 - observed), 1.0))


def _deviation(n: int, won: int, lost: int, difference: float) -> float:
    """Standard deviation of won - lost if that were the true difference (Tango 1998)."""
    half = (2 * n - won + lost) * difference - won - lost
    rest = difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, half**2 + 8 * n * lost * rest)) - half) / (
        4 * n
    )  # probability of losing an item
    return math.sqrt(max(0.0, n * (2 * likeliest + rest)))


def power(n: int, disagreement: float, difference: float, level: float) -> float:
    """Probability that `mcnemar` gives p <= `level`.

    Args:
        disagreement: share of items on which the models disagree.
        difference: true difference of the shares, 0 to `disagreement`.
    """
    low, high = binom.ppf([1e-9, 1 - 1e-9], n, disagreement)
    disagreements = np.arange(int(low), int(high) + 1)
    likely = binom.pmf(disagreements, n, disagreement)
    most = _most(n, level)[disagreements]
    won = (1 + difference / disagreement) / 2
    possible = most >= 0
    few, items = most[possible], disagreements[possible]
    return float(likely[possible] @ (bdtr(few, items, won) + bdtr(few, items, 1 - won)))


@lru_cache(maxsize=64)
def _most(n: int, level: float) -> np.ndarray:
    """For 0 to n disagreements, how many of them may be won (or lost) with p <= `level`; -1 if none."""
    disagreements = np.arange(n + 1)
    most = binom.ppf(level / 2, disagreements, 0.5).astype(int)
    return most - (2 * bdtr(most, disagreements, 0.5) > level)


def visible(n: int, disagreement: float, *, level: float, power_wanted: float) -> float | None:
    """Smallest true difference of the shares that `mcnemar` finds with the power wanted.

    The models are taken to disagree on a share `disagreement` of the items, or on as many as the difference
    itself needs.

    Returns:
        None where n items are too few to find any.
    """

    def excess(difference: float) -> float:
        return power(n, max(disagreement, difference), difference, level) - power_wanted

    smallest = 1e-3 / n
    return None if excess(1.0) < 0 else float(brentq(excess, smallest, 1.0, xtol=1e-4 / n))
