"""Compute the retention score: a domain's gain and the loss elsewhere in one number.

With Δ_t the change of task t's score from A to B, c_t its score by guessing (0 if unknown) and w_t its weight
in the suite's macro average, a suite's change in points of the range between guessing and perfect is

    G = 100 · Σ_t w_t · Δ_t / (1 - c_t)

and the retention score is G of the domain plus G of the general suite: a point lost elsewhere costs as much
as a point won in the domain brings. It is positive where the domain gained more than was lost, and exactly
the domain's gain where nothing else changed. It is a sum, not a ratio: a model that guesses in its domain has
nothing to divide by. A general gain counts as gain: a score that cut it off would take noise for loss.

Its error is that of the tasks' paired differences, propagated (`evals.metrics.sum_interval`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cpt.errors import UsageError
from evals.comparing.comparison import Comparison
from evals.comparing.verdicts import Verdict
from evals.metrics import propagate_errors, sum_interval, task_weights
from evals.results import Record


class Change(Record):
    """A change in points of the range between guessing and perfect; an unknown error is None."""

    points: float
    stderr: float | None


class Retention(Change):
    """Retention score of a domain: gain plus change elsewhere.

    Attributes:
        domain: Suite of the domain.
        general: General suite.
        gain: Change of the domain.
        elsewhere: Change of the general suite; negative for a loss.
        interval: Interval at the comparison's confidence; None where the items cannot show one.
        verdict: "better" where the interval is above zero, "worse" where it is below.
    """

    domain: str
    general: str
    gain: Change
    elsewhere: Change
    interval: tuple[float, float] | None
    verdict: Verdict


def retention(comparison: Comparison, domain: str, general: str = "general") -> Retention:
    """Compute the retention score of one domain.

    Raises:
        UsageError: A suite was not compared.
    """
    compared = [average.suite for average in comparison.averages]
    missing = [suite for suite in (domain, general) if suite not in compared]
    if missing:
        raise UsageError(
            f"no retention score: {' and '.join(missing)} was not compared",
            hint=f"Suites compared: {', '.join(compared) or 'none'}.",
        )
    gain, elsewhere = _terms(comparison, domain), _terms(comparison, general)
    both = _Terms(*(np.concatenate(parts) for parts in zip(gain, elsewhere, strict=True)))
    interval = both.interval(comparison.confidence)
    return Retention(
        domain=domain,
        general=general,
        gain=gain.change(),
        elsewhere=elsewhere.change(),
        **both.change().model_dump(),
        interval=interval,
        verdict=_verdict(interval),
    )


def retentions(comparison: Comparison, general: str = "general") -> tuple[Retention, ...]:
    """Compute the retention score of every other suite; none if the general one was not compared."""
    suites = [average.suite for average in comparison.averages]
    if general not in suites:
        return ()
    return tuple(retention(comparison, suite, general) for suite in suites if suite != general)


class _Terms(NamedTuple):
    """The tasks of a weighted sum: [tasks] each."""

    shares: np.ndarray
    differences: np.ndarray
    errors: np.ndarray
    units: np.ndarray

    def change(self) -> Change:
        return Change(
            points=float(self.shares @ self.differences), stderr=propagate_errors(self.shares, self.errors)
        )

    def interval(self, confidence: float) -> tuple[float, float] | None:
        return sum_interval(
            float(self.shares @ self.differences), self.shares, self.errors, self.units, confidence
        )


def _terms(comparison: Comparison, suite: str) -> _Terms:
    tasks = [task for task in comparison.tasks if task.suite == suite and task.higher_is_better]
    ranges = np.array([1 - (task.chance or 0.0) for task in tasks])
    return _Terms(
        shares=100 * task_weights([task.group for task in tasks]) / ranges,
        differences=np.array([task.difference for task in tasks]),
        errors=np.array([task.stderr for task in tasks], dtype=object),
        units=np.array([task.units for task in tasks]),
    )


def _verdict(interval: tuple[float, float] | None) -> Verdict:
    low, high = interval or (-math.inf, math.inf)
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no change"
