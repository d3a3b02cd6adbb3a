"""Closed forms of learning-rate curves.

t is the progress within a phase, from 0 (its beginning) to 1 (its end). Every curve falls from `high` at
t = 0 to `low` at t = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType


def linear(t: float, high: float, low: float) -> float:
    """Return a point of a straight line."""
    return low + (high - low) * (1 - t)


def cosine(t: float, high: float, low: float) -> float:
    """Return a point of half a cosine period (Loshchilov and Hutter, arXiv 1608.03983)."""
    return low + (high - low) / 2 * (1 + math.cos(math.pi * t))


def inverse_sqrt(t: float, high: float, low: float) -> float:
    """Return 1/√(1 + 10t), shifted and scaled to end at `low` (infinite schedules, arXiv 2403.08763)."""

    def fallen(t: float) -> float:
        return 1 / math.sqrt(1 + 10 * t) - 1

    return high + (low - high) * (fallen(t) / fallen(1))


def one_minus_sqrt(t: float, high: float, low: float) -> float:
    """Return 1 - √t (Hägele et al., arXiv 2405.18392)."""
    return low + (high - low) * (1 - math.sqrt(t))


def exponential(t: float, high: float, low: float) -> float:
    """Return a point of exponential decay to `low` > 0 (the anneal of arXiv 2403.08763)."""
    return high * (low / high) ** t


def rex(t: float, high: float, low: float) -> float:
    """Return the reflected exponential: slow at first, fast at the end (Chen et al., arXiv 2107.04197)."""
    return low + (high - low) * (1 - t) / (1 - t / 2)


def power(tokens: float, batch: float, a: float, b: float) -> float:
    """Return batch · a · tokens^b for `tokens` tokens and `batch` sequences per step (arXiv 2408.13359).

    Not bounded: infinite at zero tokens, since b is negative.
    """
    return batch * a * tokens**b if tokens else math.inf


FALLS: Mapping[str, Callable[[float, float, float], float]] = MappingProxyType(
    {
        "linear": linear,
        "cosine": cosine,
        "inverse-sqrt": inverse_sqrt,
        "1-sqrt": one_minus_sqrt,
        "exponential": exponential,
        "rex": rex,
    }
)
"""The curves that fall from one rate to another, by the names that settings have for them."""
