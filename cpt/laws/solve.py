"""Find the coefficients of a D-CPT law: L-BFGS-B on the Huber loss of log L, from a grid of starts.

As published (arXiv 2406.01375): δ = 1e-3, the best of several starts is kept. Coefficients are the
exponentials of what is optimised, so they stay positive. N and D are divided by their geometric means and the
coefficients are converted afterwards, because A and B would otherwise change by orders of magnitude with
their exponents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from cpt.laws.dcpt import DOMAIN_TERM, Points, gradient, loss, names_of

DELTA = 1e-3
"""Residual of log L above which the Huber loss is linear."""

_SHORT, _LONG, _AGAIN = 40, 3_000, 300
"""Iterations from every start, from the best of them, and from the coefficients of another fit."""

_KEPT = 3
"""Starts that are followed to the end."""


@dataclass(frozen=True)
class Sample:
    """Readings of one text's loss.

    Attributes:
        at: Points, arrays [n]; `share` is that of the text itself.
        losses: Measured losses [n] in bits per byte.
        runs: Number of the run of each reading, int [n].
        size, domains: Whether the law has the terms of model size and of the domain.
    """

    at: Points
    losses: np.ndarray
    runs: np.ndarray
    size: bool
    domains: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the coefficients to find."""
        return names_of(size=self.size, domains=self.domains)

    def take(self, rows: np.ndarray) -> Sample:
        """Return some of the readings, by index [m]."""
        at = Points(*(np.broadcast_to(each, self.losses.shape)[rows] for each in vars(self.at).values()))
        return replace(self, at=at, losses=self.losses[rows], runs=self.runs[rows])


class Solution(NamedTuple):
    """Coefficients by name, and the mean Huber loss of log L that they reach."""

    law: dict[str, float]
    error: float


class Units(NamedTuple):
    """Geometric means that the variables are divided by."""

    parameters: float
    tokens: float
    inverse_first_loss: float
    decline: float

    @classmethod
    def of(cls, sample: Sample) -> Units:
        """Return the units of a sample."""
        at = sample.at
        domain = (_mean(1 / np.asarray(at.first_loss)), _mean(at.decline)) if sample.domains else (1.0, 1.0)
        return cls(_mean(at.parameters), _mean(at.tokens), *domain)

    def scaled(self, at: Points) -> Points:
        """Return points in these units."""
        return Points(
            at.parameters / self.parameters,
            at.tokens / self.tokens,
            at.share,
            at.first_loss * self.inverse_first_loss,
            at.decline / self.decline,
        )

    def raw(self, law: Mapping[str, float]) -> dict[str, float]:
        """Return coefficients for points in plain units, with w1 + w2 = 1."""
        found = dict(law)
        found["B"] *= self.tokens ** law["beta"]
        if "A" in law:
            found["A"] *= self.parameters ** law["alpha"]
        if "F" in law:
            w1, w2 = law["w1"] / self.inverse_first_loss, law["w2"] / self.decline
            found |= {"w1": w1 / (w1 + w2), "w2": w2 / (w1 + w2), "F": law["F"] * (w1 + w2) ** -law["mu"]}
        return found

    def own(self, law: Mapping[str, float]) -> dict[str, float]:
        """Return coefficients in these units, with w1 + w2 = 1: the inverse of `raw`."""
        found = dict(law)
        found["B"] /= self.tokens ** law["beta"]
        if "A" in law:
            found["A"] /= self.parameters ** law["alpha"]
        if "F" in law:
            w1, w2 = law["w1"] * self.inverse_first_loss, law["w2"] * self.decline
            found |= {"w1": w1 / (w1 + w2), "w2": w2 / (w1 + w2), "F": law["F"] * (w1 + w2) ** -law["mu"]}
        return found


def solve(sample: Sample, start: Mapping[str, float] | None = None) -> Solution:
    """Return the best coefficients.

    Args:
        start: Coefficients to begin from, as of a fit of nearly the same sample; None: a grid of starts.
    """
    units = Units.of(sample)
    problem = _Problem(replace(sample, at=units.scaled(sample.at)))
    if start is not None:
        ends = [problem.descend(problem.vector(units.own(start)), _AGAIN)]
    else:
        tried = [problem.descend(problem.vector(law), _SHORT) for law in _grid(sample)]
        best = sorted(tried, key=lambda each: each[1])[:_KEPT]
        ends = [problem.descend(vector, _LONG) for vector, _ in best]
    vector, error = min(ends, key=lambda each: each[1])
    return Solution(units.raw(problem.law(vector)), error * DELTA**2)


def huber(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Return the mean Huber loss of log L, with δ = 1e-3."""
    return float(np.mean(_huber(np.log(predicted / measured))))


def _huber(residuals: np.ndarray) -> np.ndarray:
    size = np.abs(residuals)
    return np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2))


class _Problem:
    """The optimisation in units in which all variables are near 1.

    The vector holds the logarithm of each coefficient; w1 and w2, whose scale F already has, share one
    number: the log odds of w1 where w1 + w2 = 1.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._logs = np.log(sample.losses)
        self._plain = [name for name in sample.names if name not in DOMAIN_TERM[2:]]
        level = float(sample.losses.max())
        bounds = dict.fromkeys(("A", "B", "C", "F"), (1e-06 * level, 1000.0 * level))
        bounds |= dict.fromkeys(("alpha", "eta", "beta", "gamma", "mu"), (0.001, 10.0))
        bounds |= {"E": (1e-3 * level, level), "epsilon": (1e-4, 2.0)}
        self._bounds = [tuple(map(math.log, bounds[name])) for name in self._plain]
        self._bounds += [(-8.0, 8.0)] if sample.domains else []

    def vector(self, law: Mapping[str, float]) -> np.ndarray:
        """Return the vector of coefficients, moved within the bounds."""
        values = [math.log(law[name]) for name in self._plain]
        values += [math.log(law["w1"] / law["w2"])] if self._sample.domains else []
        return np.clip(values, *np.transpose(self._bounds))

    def law(self, vector: np.ndarray) -> dict[str, float]:
        """Return the coefficients of a vector."""
        found = dict(zip(self._plain, np.exp(vector[: len(self._plain)]).tolist(), strict=True))
        if self._sample.domains:
            found |= {"w1": float(expit(vector[-1])), "w2": float(expit(-vector[-1]))}
        return found

    def descend(self, start: np.ndarray, iterations: int) -> tuple[np.ndarray, float]:
        """Return the vector that L-BFGS-B reaches, and its error in units of δ²."""
        settings = {
            "maxiter": iterations,
            "maxfun": 2 * iterations,
            "ftol": 1e-11,
            "gtol": 1e-8,
            "maxcor": 20,
        }
        end = minimize(self.error, start, jac=True, method="L-BFGS-B", bounds=self._bounds, options=settings)
        return end.x, float(end.fun)

    def error(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean Huber loss in units of δ², and its gradient by the vector."""
        law = self.law(vector)
        predicted = loss(law, self._sample.at)
        residuals = np.log(predicted) - self._logs
        by_loss = np.clip(residuals, -DELTA, DELTA) / predicted / DELTA**2 / len(residuals)
        slopes = gradient(law, self._sample.at)
        found = [law[name] * float(np.sum(by_loss * slopes[name])) for name in self._plain]
        if self._sample.domains:  # dw1/dx = w1·w2 = -dw2/dx
            found.append(law["w1"] * law["w2"] * float(np.sum(by_loss * (slopes["w1"] - slopes["w2"]))))
        return float(np.mean(_huber(residuals))) / DELTA**2, np.array(found)


def _grid(sample: Sample) -> Sequence[dict[str, float]]:
    """Return starts: how much of the loss is constant, how the rest is divided, and how fast terms fall."""
    lowest, middle = float(sample.losses.min()), float(np.median(sample.losses))
    starts = []
    for constant, of_tokens, beta, epsilon, gamma in product(
        (0.3, 0.7, 0.95), (0.2, 0.8), (0.05, 0.4), (0.05, 0.5), (0.2, 1.0)
    ):
        rest = max(middle - constant * lowest, 1e-3 * lowest)
        law = {"E": constant * lowest, "B": of_tokens * rest, "eta": 0.5, "beta": beta}
        law |= {"C": (1 - of_tokens) * rest, "epsilon": epsilon, "gamma": gamma}
        if sample.size:
            law |= {"A": rest / 2, "alpha": 0.2}
        if sample.domains:
            law |= {"F": rest / 2, "mu": 0.5, "w1": 0.5, "w2": 0.5}
        starts.append(law)
    return starts


def _mean(values: np.ndarray | float) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(values))))
