"""What one task, or a suite, says of two models on the same items: difference, error, interval and p-value.

Right and wrong answers have exact answers (`evals.comparing.paired_shares`); every other score is resampled
(`evals.comparing.resampling`): a bootstrap of the items for error and interval, an exchange of the models'
answers for the p-value.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evals.comparing import paired_shares
from evals.comparing.averages import propagate, sum_interval
from evals.comparing.matching import Matched
from evals.comparing.resampling import (
    Aggregate,
    Pairs,
    Value,
    bootstrap,
    exchange,
    p_value,
    pair,
    percentiles,
)
from evals.metrics import standard_error


@dataclass(frozen=True)
class Difference:
    """Second model minus first.

    Attributes:
        a, b: the models' scores, with their standard errors (`evals.metrics.standard_error`).
        stderr: of the difference, None for a single item.
        interval: None where the items do not tell (a single one, or all with the same values).
        exchanged: [draws] the difference, were both one model.
        disagreement: share of items that just one model gets right; None if the score is not a share.
        units: independent observations.
        differing: of them those on which the models' answers differ.
    """

    a: float
    a_stderr: float | None
    b: float
    b_stderr: float | None
    difference: float
    stderr: float | None
    interval: tuple[float, float] | None
    p: float
    exchanged: np.ndarray
    disagreement: float | None
    units: int
    differing: int

    @property
    def smallest(self) -> float:
        """Return the smallest p-value that answers which differ on so many units can have.

        Of the 2^differing ways to exchange answers, no fewer than two are as extreme as any: one and its
        mirror image. The number does not depend on whose answers are the better ones.
        """
        exact = min(1.0, 2.0 * 0.5**self.differing)
        return exact if self.disagreement is not None else max(exact, 1 / (1 + len(self.exchanged)))

    def visible(self, level: float, power: float) -> float | None:
        """Smallest true difference found with probability `power` by a test at `level`; None if none is."""
        if self.disagreement is not None:
            return paired_shares.visible(self.units, self.disagreement, level=level, power_wanted=power)
        if not np.isfinite(self.exchanged).all() or not self.exchanged.any():
            return None
        spread = float(self.exchanged.std())
        return float(ndtri(1 - level / 2) + ndtri(power)) * spread


def of_task(
    task: Matched, aggregate: Aggregate, *, confidence: float, resamples: int, seed: int
) -> Difference:
    """The difference that a task's items show."""
    pairs = pair(task.first, task.second, task.clusters)
    source = [seed, zlib.crc32(task.a.task.encode())]
    if (
        task.aggregation == "mean"
        and set(task.first) | set(task.second) <= {0.0, 1.0}
        and not pairs.clustered
    ):
        return _of_shares(task.first, task.second, confidence, resamples, source)
    return _of_scores(task, pairs, aggregate, confidence, resamples, source)


def of_suite(differences: Sequence[Difference], shares: np.ndarray, *, confidence: float) -> Difference:
    """The difference of a weighted sum of scores of tasks that have no items in common.

    The error is propagated; the interval is Student's with Satterthwaite's degrees of freedom.
    """
    value = float(shares @ [task.difference for task in differences])
    errors = [task.stderr for task in differences]
    exchanged = np.tensordot(shares, np.stack([task.exchanged for task in differences]), 1)
    return Difference(
        a=float(shares @ [task.a for task in differences]),
        a_stderr=propagate(shares, [task.a_stderr for task in differences]),
        b=float(shares @ [task.b for task in differences]),
        b_stderr=propagate(shares, [task.b_stderr for task in differences]),
        difference=value,
        stderr=propagate(shares, errors),
        interval=sum_interval(value, shares, errors, [task.units for task in differences], confidence),
        p=p_value(value, exchanged),
        exchanged=exchanged,
        disagreement=None,
        units=sum(task.units for task in differences),
        differing=sum(task.differing for task in differences),
    )


def _of_shares(
    first: Sequence[Value], second: Sequence[Value], confidence: float, resamples: int, source: Sequence[int]
) -> Difference:
    one, other = np.array(first, dtype=float), np.array(second, dtype=float)
    n, won, lost = len(one), int((other > one).sum()), int((one > other).sum())
    toss = np.random.default_rng([*source, 1]).binomial(won + lost, 0.5, size=resamples)
    return Difference(
        a=float(one.mean()),
        a_stderr=standard_error("mean", first),
        b=float(other.mean()),
        b_stderr=standard_error("mean", second),
        difference=(won - lost) / n,
        stderr=None if n < 2 else float((other - one).std(ddof=1)) / math.sqrt(n),
        interval=paired_shares.score_interval(n, won, lost, confidence),
        p=paired_shares.mcnemar(won, lost),
        exchanged=(2 * toss - won - lost) / n,
        disagreement=(won + lost) / n,
        units=n,
        differing=won + lost,
    )


def _of_scores(
    task: Matched,
    pairs: Pairs,
    aggregate: Aggregate,
    confidence: float,
    resamples: int,
    source: Sequence[int],
) -> Difference:
    def score(values: Sequence[Value], weights: np.ndarray) -> np.ndarray:
        return np.asarray(aggregate(task.aggregation, values, weights))

    with np.errstate(over="ignore", invalid="ignore"):  # a perplexity may overflow: no error, no interval
        a, b = (float(aggregate(task.aggregation, values)) for values in (task.first, task.second))
        first, second = bootstrap(pairs, score, resamples, [*source, 0])
        exchanged = exchange(pairs, score, resamples, [*source, 1])
        drawn = second - first
    return Difference(
        a=a,
        a_stderr=standard_error(task.aggregation, task.first, task.clusters),
        b=b,
        b_stderr=standard_error(task.aggregation, task.second, task.clusters),
        difference=b - a,
        stderr=_spread(drawn, pairs.units),
        interval=_quantiles(drawn, pairs.units, confidence),
        p=p_value(b - a, exchanged),
        exchanged=exchanged,
        disagreement=None,
        units=pairs.units,
        differing=pairs.differing,
    )


def _spread(draws: np.ndarray, units: int) -> float | None:
    """Standard error from bootstrap draws, which have the spread of `units` - 1 observations."""
    if units < 2 or not np.isfinite(draws).all():
        return None
    return float(draws.std()) * math.sqrt(units / (units - 1))


def _quantiles(draws: np.ndarray, units: int, confidence: float) -> tuple[float, float] | None:
    if units < 2 or np.ptp(draws) == 0 or not np.isfinite(draws).all():
        return None
    return percentiles(draws, units, confidence)
