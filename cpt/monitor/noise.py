"""Significance of changes over many interim looks.

A rise is significant when it is more than `critical` standard errors above zero. The interval covers all
looks together (Bonferroni): in a run of the usual length that changes nothing, the chance that any reading
of any probe is called changed is at most `FALSE_ALARMS`.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

FALSE_ALARMS = 0.0025
"""Chance of a false alarm over all readings and probes of a run of the usual length."""

USUAL_READINGS = 32
"""Number of readings per probe that intervals allow for from the start, so that they do not change."""

SUSPICION = 0.0003
"""Chance of a false suspicion at one reading of one probe: below one per cent in a run of thirty readings."""

CONFIDENCE = 0.95
"""Coverage of a one-sided bound, and power of a test for the effect that it is sized for."""

ONE_SIDED_95 = NormalDist().inv_cdf(CONFIDENCE)
"""Standard errors from a figure to its one-sided bound at 95%."""

EXCESS = 1 / 3
"""Share by which a true rise exceeds its limit where a sample is sized to find it."""


@cache
def critical(looks: int, items: int | None = None) -> float:
    """Return the standard errors beyond which the highest of many readings is significant.

    Args:
        looks: Number of interim looks.
        items: Number of items that an error is estimated from; None if the error is exact. Few items often
            give an error that is far too small, which Student's t allows for.
    """
    return standard_errors(FALSE_ALARMS / looks, items)


@cache
def standard_errors(chance: float, items: int | None = None) -> float:
    """Return the standard errors that noise alone exceeds with a given chance.

    Args:
        chance: One-sided probability.
        items: See `critical`.
    """
    if items is None or items < 2:
        return -NormalDist().inv_cdf(chance)
    from scipy.special import stdtrit

    return -float(stdtrit(items - 1, chance))


def bound(items: int | None = None) -> float:
    """Return the standard errors from a figure to its one-sided bound.

    Args:
        items: See `critical`. Infinite for one item, whose spread is unknown.
    """
    if items is not None and items < 2:
        return math.inf
    return standard_errors(1 - CONFIDENCE, items)


@cache
def found_from(items: int | None = None) -> float:
    """Return the true distance from a limit, in standard errors, that a one-sided test finds.

    The test finds a figure beyond the limit when its bound is. A distance of this size is found with the
    chance `CONFIDENCE`: exactly, by the noncentral t distribution, where the error is estimated.

    Args:
        items: See `critical`. Infinite for one item.
    """
    if items is None:
        return 2 * ONE_SIDED_95
    if items < 2:
        return math.inf
    from scipy.special import nctdtrinc

    return float(nctdtrinc(items - 1, 1 - CONFIDENCE, bound(items)))


def needed_error(limit: float, items: int | None = None) -> float:
    """Return the standard error at which a true rise of the limit and a third is found broken.

    The chance of finding it is `CONFIDENCE`. A rise of two thirds of the limit is then found held with the
    same chance.

    Args:
        limit: Greatest rise that is allowed, in any unit.
        items: See `critical`. The error is 0 for one item, and for a limit of 0.
    """
    return limit * EXCESS / found_from(items)


def detectable_rise(limit: float, error: float, items: int | None = None) -> float:
    """Return the smallest true rise that is found broken with the chance `CONFIDENCE`.

    Args:
        limit: Greatest rise that is allowed.
        error: Standard error of the rise, in the limit's unit.
        items: See `critical`. Infinite for one item.
    """
    return limit + found_from(items) * error


def needed_items(limit: float, error: float, items: int) -> int | None:
    """Return the number of items with which a rise of the limit and a third is found broken.

    The error falls with the square root of the number of items.

    Args:
        limit: Greatest rise that is allowed.
        error: Standard error of the rise, as it is estimated from `items` items.
        items: Number of items that the error is estimated from.

    Returns:
        None if no number can be estimated: the limit is 0, or the error is unknown.
    """
    if limit <= 0 or not math.isfinite(error) or items < 2:
        return None
    spread = error * math.sqrt(items)
    least = max(2, math.ceil((spread / needed_error(limit)) ** 2))
    while spread / math.sqrt(least) > needed_error(limit, least):
        least += 1
    return least


def looks(readings: int, probes: int) -> int:
    """Return the number of interim looks: one per reading and probe."""
    return max(readings, USUAL_READINGS) * max(probes, 1)


def known(error: float) -> float:
    """Return a standard error, or 0 if it is unknown (NaN): the figure is then taken as exact."""
    return 0.0 if math.isnan(error) else error
