"""Divide the rows of training among sources by weight: exact shares, phases, and weights from sizes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from cpt.errors import UsageError

ONCE: Final = "once"
"""End of a phase that lasts until every sequence of its parts has been trained on."""

RESOLUTION = 1 << 16
"""Largest sum of whole weights: shares that are no such fraction are rounded to one 65,536th."""


class Interleaving:
    """An order of rows in which every beginning holds the share of each part, to less than one row.

    Row j of a part with share p may come once that puts the part ahead of its share by less than one row, and
    is due when its absence would leave it behind by one; the row that is due first comes next. Such an order
    always exists (Tijdeman 1980, "The chairman assignment problem"; Balinski and Young 1975, "The quota
    method of apportionment"), and earliest deadline first finds one. Largest-remainder rounding of every
    beginning by itself has the same bound, but takes back rows that were read already (the Alabama paradox).
    The order repeats after as many rows as the weights add up to.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        """Lay out the order.

        Args:
            weights: Whole weight of each part, at least 0, of a sum from 1 to `RESOLUTION`.
        """
        divisor = math.gcd(*weights)
        self._weights = tuple(weight // divisor for weight in weights)
        self._period = sum(self._weights)
        self._table = _beginnings(self._weights)

    def counts(self, rows: int) -> np.ndarray:
        """Return the number of rows of each part among the first rows, int64 (parts,)."""
        periods, rest = divmod(rows, self._period)
        return periods * np.array(self._weights, dtype=np.int64) + self._table[rest]


@lru_cache(maxsize=256)
def _beginnings(weights: tuple[int, ...]) -> np.ndarray:
    """Return the rows of each part among the first 0, 1, ... of one period, int32 (period + 1, parts)."""
    period = sum(weights)
    parts = np.repeat(np.arange(len(weights)), weights)
    of_part = np.concatenate([np.arange(weight) for weight in weights])
    shares = np.array(weights)[parts]
    release = of_part * period // shares  # rows before it, at least
    due = -(-(of_part + 1) * period // shares)  # rows up to and with it, at most
    order = np.lexsort((parts, release))
    waiting = list(zip(release[order].tolist(), due[order].tolist(), parts[order].tolist(), strict=True))[
        ::-1
    ]
    ready: list[tuple[int, int]] = []
    table = np.zeros((period + 1, len(weights)), dtype=np.int32)
    for row in range(period):
        while waiting and waiting[-1][0] <= row:
            heapq.heappush(ready, waiting.pop()[1:])
        table[row + 1, heapq.heappop(ready)[1]] = 1
    return np.cumsum(table, axis=0, dtype=np.int32)


def whole_weights(weights: Mapping[str, float], resolution: int = RESOLUTION) -> dict[str, int]:
    """Return whole weights in the same ratio: exactly if that takes no more than `resolution` in all.

    Otherwise shares are rounded by largest remainder, and none that is positive becomes 0.

    Args:
        weights: Finite, at least 0, not all 0; read as the decimal fractions that they are written as.
        resolution: Largest sum of the whole weights, at most `RESOLUTION`.
    """
    written = {name: Fraction(str(weight)) for name, weight in weights.items()}
    total = sum(written.values())
    shares = {name: weight / total for name, weight in written.items()}
    denominator = math.lcm(*(share.denominator for share in shares.values()))
    if denominator <= resolution:
        return {name: int(share * denominator) for name, share in shares.items()}
    exact = {name: share * resolution for name, share in shares.items()}
    whole = {name: max(int(share > 0), math.floor(share)) for name, share in exact.items()}
    missing = resolution - sum(whole.values())
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[: max(missing, 0)]:
        whole[name] += 1
    if missing < 0:  # tiny parts were rounded up
        whole[max(whole, key=lambda name: whole[name])] += missing
    return whole


def weights_of_sizes(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Return weights n^(1/T) of parts of n rows: T = 1 is in proportion, large T the same for all.

    Conneau et al. 2020 (arXiv 1911.02116), equation in section 3.1, with their alpha as 1/T.
    """
    largest = max(sizes.values())
    return {name: (size / largest) ** (1 / temperature) for name, size in sizes.items()}


@dataclass(frozen=True)
class MixturePhase:
    """A stretch of a run with one mixture.

    Attributes:
        until: Share of the run's steps at which it ends, or `ONCE`.
        weights: Whole weights of the rows that are not replay, by source; the same sources in every phase.
        replay_rows: Replay rows of each global batch.
    """

    until: float | Literal["once"]
    weights: Mapping[str, int]
    replay_rows: int


def replay_rows(share: float, batch_sequences: int) -> int:
    """Return the replay rows of each global batch: exactly round(share * batch_sequences).

    Raises:
        UsageError: A positive share rounds to no row, or to all rows.
    """
    rows = round(share * batch_sequences)
    if share > 0 and rows == 0:
        message = f"a replay share of {share:g} of {batch_sequences} sequences rounds to none"
        hint = f"Use at least {1 / batch_sequences:g}"
        hint += (
            f", or larger batches: batch_sequences: {_batch_for(share)}." if share > _SMALLEST_SHARE else "."
        )
        raise UsageError(message, hint=hint)
    if not 0 <= rows < batch_sequences:
        message = f"a replay share of {share:g} of {batch_sequences} sequences leaves none for the domain"
        raise UsageError(message, hint="Use a share from 0 to less than 1.")
    return rows


def trained_share(share: float, batch_sequences: int) -> float:
    """Return the share of replay that is trained on, of a share that is asked for: whole rows of a batch.

    Raises:
        UsageError: As of `replay_rows`.
    """
    return replay_rows(share, batch_sequences) / batch_sequences


_SMALLEST_SHARE = 1e-6
"""Smallest share for which the hint proposes a larger batch."""


def _batch_for(share: float) -> int:
    """Return the smallest batch in which a share is about one row."""
    return max(2, round(1 / share))
