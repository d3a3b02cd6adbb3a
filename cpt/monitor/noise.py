"""When a change is more than noise, though many readings are looked at.

A rise leaves its interval when it is more than `critical` standard errors above zero. The interval is that
of all looks together (Bonferroni): a run that changes nothing has a chance of at most `FALSE_ALARMS` per
hundred looks to be called changed, whichever of its readings is the highest.
"""

from __future__ import annotations

import math
from statistics import NormalDist

FALSE_ALARMS = 0.0025
"""Chance that noise alone counts, over all the readings and probes of a run of the usual length."""

USUAL_READINGS = 32
"""Readings of a probe that are provided for from the first one on, so that intervals do not change."""

ONE_SIDED_95 = NormalDist().inv_cdf(0.95)
"""Standard errors from a figure to the bound that it is below with a chance of 95%."""


def critical(looks: int) -> float:
    """Standard errors beyond which the highest of so many readings counts."""
    return -NormalDist().inv_cdf(FALSE_ALARMS / looks)


def looks(readings: int, probes: int) -> int:
    """How often it is looked whether something counts: after every reading, at every probe."""
    return max(readings, USUAL_READINGS) * max(probes, 1)


def known(error: float) -> float:
    """A standard error; what is not known (NaN) is taken as 0: the figure counts as it is."""
    return 0.0 if math.isnan(error) else error
