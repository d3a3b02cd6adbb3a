"""Compute the D-CPT law: loss as a function of model size, tokens and the share of a text in the mixture.

L(N, D, r) = E + A/N^alpha + B * r^eta / D^beta + C/(r + epsilon)^gamma

Que et al. 2024, "D-CPT Law: Domain-specific Continual Pre-Training Scaling Law for Large Language Models",
arXiv 2406.01375. r is the share of the text whose loss is predicted: of domain text the domain's share, of
general text one minus that. The cross-domain law adds F/K^mu with K = w1/k1 + w2·k2, where k1 is the domain's
first validation loss and k2 its rate of decline.

Coefficients are a mapping by name. A law without "A" has no term of model size, one without "F" none of the
domain. Each coefficient is a number, or an array that broadcasts against the points: [draws, 1] gives losses
[draws, n].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

SIZE = ("A", "alpha")
DOMAIN_TERM = ("F", "mu", "w1", "w2")

Coefficients = Mapping[str, float | np.ndarray]
Variable = Literal["parameters", "tokens", "share"]


def names_of(*, size: bool, domains: bool) -> tuple[str, ...]:
    """Return the names of a law's coefficients.

    Args:
        size: True if the law has the term of model size.
        domains: True if the law has the term of the domain.
    """
    sized = SIZE if size else ()
    return ("E", *sized, "B", "eta", "beta", "C", "epsilon", "gamma", *(DOMAIN_TERM if domains else ()))


@dataclass(frozen=True)
class Points:
    """Points at which a law is evaluated: arrays [n], or anything that broadcasts.

    Attributes:
        parameters: Model size N.
        tokens: Tokens trained D, above 0.
        share: Share r of the text whose loss is predicted, from 0 to 1.
        first_loss: First validation loss k1 of the domain, in bits per byte, of a cross-domain law.
        decline: Rate of decline k2 of the domain's validation loss, as above.
    """

    parameters: np.ndarray | float
    tokens: np.ndarray | float
    share: np.ndarray | float
    first_loss: np.ndarray | float = math.nan
    decline: np.ndarray | float = math.nan


def loss(law: Coefficients, at: Points) -> np.ndarray:
    """Return the predicted losses [n]."""
    total = (
        law["E"]
        + law["B"] * np.power(at.share, law["eta"]) / np.power(at.tokens, law["beta"])
        + law["C"] / np.power(at.share + law["epsilon"], law["gamma"])
    )
    if "A" in law:
        total = total + law["A"] / np.power(at.parameters, law["alpha"])
    if "F" in law:
        total = total + law["F"] / np.power(_domain(law, at), law["mu"])
    return np.asarray(total)


def gradient(law: Coefficients, at: Points) -> dict[str, np.ndarray]:
    """Return the derivative of the loss by each coefficient [n]."""
    share, tokens = np.asarray(at.share, float), np.asarray(at.tokens, float)
    of_tokens = np.power(share, law["eta"]) / np.power(tokens, law["beta"])
    shifted = share + law["epsilon"]
    of_share = np.power(shifted, -np.asarray(law["gamma"]))
    logarithm = np.log(np.where(share > 0, share, 1.0))  # r^η·ln r → 0 as r → 0
    found = {
        "E": np.ones(np.broadcast(share, tokens).shape),
        "B": of_tokens,
        "eta": law["B"] * of_tokens * logarithm,
        "beta": -law["B"] * of_tokens * np.log(tokens),
        "C": of_share,
        "epsilon": -law["C"] * law["gamma"] * of_share / shifted,
        "gamma": -law["C"] * of_share * np.log(shifted),
    }
    if "A" in law:
        of_size = np.power(at.parameters, -np.asarray(law["alpha"]))
        found |= {"A": of_size, "alpha": -law["A"] * of_size * np.log(at.parameters)}
    if "F" in law:
        k = _domain(law, at)
        of_domain = np.power(k, -np.asarray(law["mu"]))
        by_k = -law["F"] * law["mu"] * of_domain / k
        found |= {"F": of_domain, "mu": -law["F"] * of_domain * np.log(k)}
        found |= {"w1": by_k / at.first_loss, "w2": by_k * at.decline}
    return found


def slopes(law: Coefficients, at: Points) -> dict[Variable, np.ndarray]:
    """Return ∂L/∂N, ∂L/∂D and ∂L/∂r [n]; that of model size only if the law has the term.

    At r = 0 the derivative by the share is infinite where η < 1.
    """
    share, tokens = np.asarray(at.share, float), np.asarray(at.tokens, float)
    of_tokens = law["B"] * np.power(share, law["eta"]) / np.power(tokens, law["beta"])
    with np.errstate(divide="ignore"):
        rising = law["B"] * law["eta"] * np.power(share, law["eta"] - 1) / np.power(tokens, law["beta"])
    falling = law["C"] * law["gamma"] / np.power(share + law["epsilon"], law["gamma"] + 1)
    found: dict[Variable, np.ndarray] = {
        "tokens": np.asarray(-law["beta"] * of_tokens / tokens),
        "share": np.asarray(rising - falling),
    }
    if "A" in law:
        sizes = np.asarray(at.parameters, float)
        found["parameters"] = np.asarray(-law["alpha"] * law["A"] / np.power(sizes, law["alpha"] + 1))
    return found


@dataclass(frozen=True)
class Box:
    """The range of each variable that a law was fitted on.

    Attributes:
        parameters, tokens, share: Smallest and largest value; `share` is that of the text that is predicted.
    """

    parameters: tuple[float, float]
    tokens: tuple[float, float]
    share: tuple[float, float]


FLAT = 1e-4
"""Relative change of the loss over the whole range below which a term has vanished from a law."""


def not_falling(law: Coefficients, box: Box) -> dict[Variable, Points]:
    """Return the variables in which the loss does not fall over the fitted range, each with one such point.

    Positive coefficients make ∂L/∂N and ∂L/∂D negative, but the fit may shrink a term to nothing when the
    data contradict it. ∂L/∂r can have either sign. A share of 0, where tokens have no effect, is left out.
    """
    lowest = max(box.share[0], 1e-3 * box.share[1])
    shares = np.linspace(lowest, box.share[1], 101)
    tokens, sizes = np.geomspace(*box.tokens, 21), np.geomspace(*box.parameters, 5)
    grid = [each.ravel() for each in np.meshgrid(sizes, tokens, shares, indexing="ij")]
    at = Points(*grid)
    level = float(law["E"])
    width = {
        "parameters": at.parameters * math.log(box.parameters[1] / box.parameters[0]),
        "tokens": at.tokens * math.log(box.tokens[1] / box.tokens[0]),
        "share": np.full_like(grid[2], box.share[1] - lowest),
    }
    found: dict[Variable, Points] = {}
    for variable, slope in slopes(law, at).items():
        change = slope * width[variable] / max(level, 1e-9)
        worst = int(np.argmax(change))
        if change[worst] > 0 or change.min() > -FLAT:
            found[variable] = Points(*(float(values[worst]) for values in grid))
    return found


def _domain(law: Coefficients, at: Points) -> np.ndarray:
    """Return K, the coefficient of a domain [n]."""
    return np.asarray(law["w1"] / np.asarray(at.first_loss) + law["w2"] * np.asarray(at.decline))
