"""Find the coefficients of a D-CPT law: L-BFGS-B on the Huber loss of log L, from a grid of starts.

As published (arXiv 2406.01375): δ = 1e-3, the best of several starts is kept. L-BFGS-B finds the basin. The
law's terms nearly replace each other, so it then creeps for thousands of steps. Gauss-Newton steps within
a trust region reach the minimum of the same Huber loss in some thirty. Coefficients are the exponentials of
what is optimised, so they stay positive. N and D are divided by their geometric means and the coefficients
are converted afterwards: A and B would otherwise change by orders of magnitude with their exponents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import least_squares, minimize
from scipy.special import expit

from cpt.laws.dcpt import DOMAIN_TERM, Points, gradient, loss, names_of

DELTA = 1e-3
"""Residual of log L above which the Huber loss is linear."""

_STARTS, _ENDS = 12, 3
"""Points of the grid that L-BFGS-B starts from, and results of it that are followed to the minimum."""

_FEW_STARTS, _FEW_ENDS = 4, 1
"""The same for one of many fits. One that starts at another fit's coefficients alone hardly leaves them."""

_DESCENT, _FINISH = 40, 200
"""Iterations of L-BFGS-B and of the trust region."""


_NEAR = 0.01
"""Relative distance from a bound at which a coefficient stands there: a trust region ends just inside."""

Bound = Literal["lower", "upper"]
"""An end of the range that a coefficient is searched in."""


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
    """Coefficients by name, and the mean Huber loss of log L that they reach.

    Attributes:
        at_bounds: Coefficients that stand at a bound of their search range, each with the bound.
    """

    law: dict[str, float]
    error: float
    at_bounds: dict[str, Bound]


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


def solve(sample: Sample, *, thorough: bool = True) -> Solution:
    """Return the best coefficients.

    Args:
        thorough: False for one of many fits, from fewer starts.
    """
    units = Units.of(sample)
    problem = _Problem(replace(sample, at=units.scaled(sample.at)))
    starts, ends = (_STARTS, _ENDS) if thorough else (_FEW_STARTS, _FEW_ENDS)
    grid = sorted(map(problem.vector, _grid(sample)), key=lambda each: problem.error(each)[0])
    best = sorted(map(problem.descend, grid[:starts]), key=lambda each: problem.error(each)[0])
    found = [problem.finish(each, _FINISH) for each in best[:ends]]
    vector = min(found, key=lambda each: problem.error(each)[0])
    error = problem.error(vector)[0] * DELTA**2
    return Solution(units.raw(problem.law(vector)), error, problem.at_bounds(vector))


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
        bounds |= dict.fromkeys(("alpha", "eta", "beta", "gamma", "mu"), (1e-4, 10.0))
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

    def at_bounds(self, vector: np.ndarray) -> dict[str, Bound]:
        """Return the coefficients of a vector that stand at a bound."""
        names = [*self._plain, *(["w1"] if self._sample.domains else [])]
        found: dict[str, Bound] = {}
        for name, value, (low, high) in zip(names, vector, self._bounds, strict=True):
            if min(value - low, high - value) < _NEAR:
                found[name] = "lower" if value - low < high - value else "upper"
        return found

    def descend(self, start: np.ndarray) -> np.ndarray:
        """Return the vector that L-BFGS-B reaches."""
        settings = {"maxiter": _DESCENT, "maxcor": 20}
        end = minimize(self.error, start, jac=True, method="L-BFGS-B", bounds=self._bounds, options=settings)
        return np.asarray(end.x)

    def finish(self, start: np.ndarray, iterations: int) -> np.ndarray:
        """Return the vector of the minimum."""
        low, high = np.transpose(self._bounds)
        end = least_squares(
            self._residuals,
            np.clip(start, low + 1e-9, high - 1e-9),  # it starts within the bounds
            jac=self._slopes,
            bounds=(low, high),
            loss="huber",
            f_scale=DELTA,
            max_nfev=iterations,
            gtol=1e-12,
        )
        return np.asarray(end.x)

    def error(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean Huber loss in units of δ², and its gradient by the vector."""
        residuals = self._residuals(vector)
        by_residual = np.clip(residuals, -DELTA, DELTA) / DELTA**2 / len(residuals)
        return float(np.mean(_huber(residuals))) / DELTA**2, by_residual @ self._slopes(vector)

    def _residuals(self, vector: np.ndarray) -> np.ndarray:
        """Return log L minus the logarithm of the measured loss [n]."""
        return np.log(loss(self.law(vector), self._sample.at)) - self._logs

    def _slopes(self, vector: np.ndarray) -> np.ndarray:
        """Return the derivative of log L by the vector [n, v]."""
        law = self.law(vector)
        predicted, slopes = loss(law, self._sample.at), gradient(law, self._sample.at)
        columns = [law[name] * slopes[name] for name in self._plain]
        if self._sample.domains:  # dw1/dx = w1·w2 = -dw2/dx
            columns.append(law["w1"] * law["w2"] * (slopes["w1"] - slopes["w2"]))
        return np.stack(columns, axis=1) / predicted[:, None]


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
