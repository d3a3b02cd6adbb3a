"""Averages of checkpoints along a run, from the disk, after it: their weights, and the merge that makes them.

Any number of checkpoints is read a few rows at a time. Averages that are kept while a run trains are the
pretrain stage's (`average`); LAWA and EMA are the same sums here, over whole checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from merging.request import InputModel, MergeRequest


def uniform(count: int) -> list[float]:
    """Every model counts alike: a model soup (Wortsman et al. 2022, arXiv 2203.05482).

    Of the latest checkpoints of one run it is LAWA (Kaddour 2022, arXiv 2209.14981).
    """
    return [1 / count] * count


def exponential(count: int, decay: float) -> list[float]:
    """Each checkpoint counts `decay` times as much as the next: decay^(n-1-i) / Σ_j decay^j.

    So there is no bias towards the first one.
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
"""The decays of a WSD schedule, from 1 at t = 0 to 0 at t = 1."""


def instead_of_annealing(count: int, decay: str) -> list[float]:
    """Weights with which checkpoints of a constant rate average to what a decaying one would have reached.

    Warmup-Stable and Merge (Tian et al. 2025, arXiv 2507.17634): in Σ_j c_j θ_j, the update that leads to
    checkpoint i counts w_i = Σ_{j>=i} c_j times. For updates that fade like the rate of a decay r, w_i =
    r(i/n) over n checkpoints, hence c_j = r(j/n) - r((j+1)/n); the sum of all is 1. With the linear decay
    all are the same. It holds as far as the updates would have been those of the constant rate.

    Args:
        decay: one of `FALLS`.
    """
    fall = FALLS[decay]
    return [fall(place / count) - fall((place + 1) / count) for place in range(count)]


def average(
    checkpoints: Sequence[InputModel], weights: Sequence[float], about: str, dtype: str | None = None
) -> MergeRequest:
    """The merge that makes an average, in float64.

    Args:
        checkpoints: the oldest first.
        weights: one for each; they sum to 1.
        about: what is averaged, for the model card.
        dtype: of the result; None for the checkpoints'.
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
