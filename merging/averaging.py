"""Average checkpoints from the disk after a run: compute their weights, and the request that merges them.

Any number of checkpoints is read a few rows at a time. LAWA and EMA that are kept while a run trains belong
to training; these formulas give the same sums over whole checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from merging.request import InputModel, MergeRequest


def uniform(count: int) -> list[float]:
    """Return equal weights: a model soup (Wortsman et al. 2022, arXiv 2203.05482).

    Over the latest checkpoints of one run this is LAWA (Kaddour 2022, arXiv 2209.14981).
    """
    return [1 / count] * count


def exponential(count: int, decay: float) -> list[float]:
    """Return weights of which each is `decay` times the next one: decay^(n-1-i) / Σ_j decay^j.

    The division removes the bias towards the first checkpoint.
    """
    powers = [decay ** (count - 1 - place) for place in range(count)]
    return [power / math.fsum(powers) for power in powers]


FALLS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda t: 1 - t,
        "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
        "1-sqrt": lambda t: 1 - math.sqrt(t),
    }
)
"""Decay curves of a WSD schedule, from 1 at t = 0 to 0 at t = 1."""


def instead_of_annealing(count: int, decay: str) -> list[float]:
    """Return weights that give checkpoints of a constant rate the result of a decaying rate.

    Warmup-Stable and Merge (Tian et al. 2025, arXiv 2507.17634): in Σ_j c_j θ_j, the update that leads to
    checkpoint i counts w_i = Σ_{j>=i} c_j times. For updates that fade like the rate of a decay r, w_i =
    r(i/n) over n checkpoints, hence c_j = r(j/n) - r((j+1)/n); their sum is 1. The linear decay gives equal
    weights. The equality assumes that a decaying rate leads to the same updates, only scaled.

    Args:
        count: Number of checkpoints.
        decay: Name of a curve in `FALLS`.
    """
    fall = FALLS[decay]
    return [fall(place / count) - fall((place + 1) / count) for place in range(count)]


def average(
    checkpoints: Sequence[InputModel], weights: Sequence[float], about: str, dtype: str | None = None
) -> MergeRequest:
    """Return the request that merges checkpoints into their average, in float64.

    Args:
        checkpoints: Checkpoints, the oldest first.
        weights: Weight of each checkpoint; the sum is 1.
        about: Sentence about the models for the model card.
        dtype: Data type of the result; None for the checkpoints' own.
    """
    models = tuple(
        replace(checkpoint, parameters={"weight": weight})
        for checkpoint, weight in zip(checkpoints, weights, strict=True)
    )
    return MergeRequest(
        "linear",
        models,
        parameters={"normalize": False},
        dtype=dtype,
        compute_dtype="float64",
        about=about,
    )
