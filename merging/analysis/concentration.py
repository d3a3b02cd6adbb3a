"""How few weights carry most of a vector's squared norm, found in two passes without sorting.

The order of positive float32 values is that of their bits. The first pass adds up squares by the high 16 bits
of the magnitudes, the second by the low 15 of those on the border; so the border is one float32 magnitude,
and the number is that which sorting all of them would give.
"""

from __future__ import annotations

import math

import torch

_LOW_BITS = 15
_LOW = 2**_LOW_BITS
_HIGH = 2 ** (31 - _LOW_BITS)
_ROUNDING = 1e-12


class Concentration:
    """Counts the largest weights that together have a share of the squared norm."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._counts = torch.zeros(_HIGH, dtype=torch.int64)
        self._squares = torch.zeros(_HIGH, dtype=torch.float64)
        self._fine = torch.zeros(_LOW, dtype=torch.int64)
        self._border = -1

    def count(self, vector: torch.Tensor) -> None:
        """First pass. Args: vector: a part of the vector [n], any float type."""
        magnitudes = vector.abs().float()
        bins = (magnitudes.view(torch.int32) >> _LOW_BITS).long()
        self._counts += bins.bincount(minlength=_HIGH)
        self._squares.scatter_add_(0, bins, magnitudes.double().square())

    def refine(self, vector: torch.Tensor) -> None:
        """Second pass over the same parts, in any order."""
        if self._border < 0:
            self._border = self._find_border()
        keys = vector.abs().float().view(torch.int32)
        on_border = keys[(keys >> _LOW_BITS) == self._border] & (_LOW - 1)
        self._fine += on_border.bincount(minlength=_LOW)

    def weights(self) -> int:
        """How many weights carry the share."""
        total = float(self._squares.sum())
        if total == 0.0:
            return 0
        needed = self._needed(total) - float(self._squares[self._border + 1 :].sum())
        count = int(self._counts[self._border + 1 :].sum())
        keys = torch.arange(_LOW, dtype=torch.int32) | (self._border << _LOW_BITS)
        squares = keys.view(torch.float32).double().square().tolist()
        for there, square in zip(reversed(self._fine.tolist()), reversed(squares), strict=True):
            if there and needed <= there * square:
                return count + max(0, math.ceil(needed / square))
            needed -= there * square
            count += there
        return count

    def _find_border(self) -> int:
        """The highest bin at which the bins from above have the share."""
        from_above = self._squares.flip(0).cumsum(0)
        return _HIGH - 1 - int(torch.searchsorted(from_above, self._needed(float(from_above[-1]))))

    def _needed(self, total: float) -> float:
        """The squared norm to be carried, less what rounding may have added."""
        return self._share * total * (1 - _ROUNDING)
