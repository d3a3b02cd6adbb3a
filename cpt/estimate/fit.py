"""Which micro batch fits, so that the global batch, and so what is learnt, stays the same."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from cpt.estimate.job import Job

MARGIN = 0.10
"""Share of the memory that is left free: the prediction is good to a tenth."""


@dataclass(frozen=True)
class Fit:
    """A micro batch that fits, the micro batches of a step, and the peak in bytes."""

    micro_batch: int
    accumulation: int
    peak: int


def fits(peak: int, limit: int) -> bool:
    """Whether a predicted peak fits with some room to spare."""
    return peak * (1 + MARGIN) <= limit


def largest_fit(job: Job, limit: int, peak_of: Callable[[Job], int]) -> Fit | None:
    """The fewest micro batches per step that fit; None if not even one sequence at a time does.

    Args:
        limit: bytes of memory.
        peak_of: predicts the peak of a job; grows with the micro batch, save that a single micro batch
            per step needs no sum of gradients.
    """
    found: dict[int, Fit] = {}

    def too_large(size: int) -> bool:
        tried = job.with_micro_batch(size)
        found[size] = Fit(size, tried.accumulation, peak_of(tried))
        return not fits(found[size].peak, limit)

    *smaller, whole = _sizes(job.own_sequences)
    if not too_large(whole):
        return found[whole]
    count = bisect_right(smaller, False, key=too_large)
    return found[smaller[count - 1]] if count else None


def _sizes(sequences: int) -> list[int]:
    """The smallest micro batch for every number of micro batches per step, ascending."""
    return sorted({math.ceil(sequences / count) for count in range(1, sequences + 1)})
