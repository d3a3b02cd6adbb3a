"""When a change is more than noise, though many readings are looked at.

A rise leaves its interval when it is more than `critical` standard errors above zero. The interval is that
of all looks together (Bonferroni): a run that changes nothing has a chance of at most `FALSE_ALARMS` over
all readings and probes of a run of the usual length to be called changed, whichever is the highest.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

FALSE_ALARMS = 0.0025
"""Chance that noise alone counts, over all the readings and probes of a run of the usual length."""

USUAL_READINGS = 32
"""Readings of a probe that are provided for from the first one on, so that intervals do not change."""

SUSPICION = 0.0003
"""Chance that noise alone, at one reading of one probe, is taken for a reason to be careful: below one per
cent in a run of thirty readings."""

CONFIDENCE = 0.95
"""Chance with which a one-sided bound of a figure contains the true one, and with which a test finds what it
is sized for."""

ONE_SIDED_95 = NormalDist().inv_cdf(CONFIDENCE)
"""Standard errors from a figure to the bound that it is below with a chance of 95%."""

EXCESS = 1 / 3
"""Share by which a true rise exceeds its limit where a sample is sized so that the rise is found."""


@cache
def critical(looks: int, items: int | None = None) -> float:
    """Standard errors beyond which the highest of so many readings counts.

    Args:
        items: that an error is estimated from: few of them often give one that is far too small, which
            Student's t allows for. None: the error is exact.
    """
    return standard_errors(FALSE_ALARMS / looks, items)


@cache
def standard_errors(chance: float, items: int | None = None) -> float:
    """Standard errors that noise alone exceeds with a chance.

    Args:
        items: see `critical`.
    """
    if items is None or items < 2:
        return -NormalDist().inv_cdf(chance)
    from scipy.special import stdtrit

    return -float(stdtrit(items - 1, chance))


def bound(items: int | None = None) -> float:
    """Return the standard errors from a figure to its one-sided bound.

    Args:
        items: see `critical`. Infinite for one item, whose spread is unknown.
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
        items: see `critical`. Infinite for one item.
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
        limit: greatest rise that a budget allows, in any unit.
        items: see `critical`. The error is 0 for one item, and for a limit of 0.
    """
    return limit * EXCESS / found_from(items)


def detectable_rise(limit: float, error: float, items: int | None = None) -> float:
    """Return the smallest true rise that is found broken with the chance `CONFIDENCE`.

    Args:
        limit: greatest rise that a budget allows.
        error: standard error of the rise, in the limit's unit.
        items: see `critical`. Infinite for one item.
    """
    return limit + found_from(items) * error


def needed_items(limit: float, error: float, items: int) -> int | None:
    """Return the number of items with which a rise of the limit and a third is found broken.

    The error falls with the square root of the number of items.

    Args:
        limit: greatest rise that a budget allows.
        error: standard error of the rise, as it is estimated from `items` items.
        items: number of items that the error is of.

    Returns: None where no number can be estimated: the limit is 0, or the error is unknown.
    """
    if limit <= 0 or not math.isfinite(error) or items < 2:
        return None
    spread = error * math.sqrt(items)
    least = max(2, math.ceil((spread / needed_error(limit)) ** 2))
    while spread / math.sqrt(least) > needed_error(limit, least):
        least += 1
    return least


def looks(readings: int, probes: int) -> int:
    """How often it is looked whether something counts: after every reading, at every probe."""
    return max(readings, USUAL_READINGS) * max(probes, 1)


def known(error: float) -> float:
    """A standard error; what is not known (NaN) is taken as 0: the figure counts as it is."""
    return 0.0 if math.isnan(error) else error
