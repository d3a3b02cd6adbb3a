"""When a change is more than noise, though many readings are looked at.

A rise leaves its interval when it is more than `critical` standard errors above zero. The interval is that
of all looks together (Bonferroni): a run that changes nothing has a chance of at most `FALSE_ALARMS` per
hundred looks to be called changed, whichever of its readings is the highest.
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

ONE_SIDED_95 = NormalDist().inv_cdf(0.95)
"""Standard errors from a figure to the bound that it is below with a chance of 95%."""


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


def looks(readings: int, probes: int) -> int:
    """How often it is looked whether something counts: after every reading, at every probe."""
    return max(readings, USUAL_READINGS) * max(probes, 1)


def known(error: float) -> float:
    """A standard error; what is not known (NaN) is taken as 0: the figure counts as it is."""
    return 0.0 if math.isnan(error) else error
