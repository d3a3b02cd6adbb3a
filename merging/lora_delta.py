"""Compute the tensors that a LoRA adapter changes, as their rows are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from merging.sources import FileSource, Source

_ROWS = 1024
"""Rows that are read together where all rows are needed for one figure."""


@dataclass(frozen=True)
class Declared:
    """A source whose values get another data type in the result; they are read unchanged."""

    source: Source
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.source.read(start, stop)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A matrix W plus scale · (up · diag(diagonal) · down), or that transposed; at least in float32.

    Attributes:
        under: Matrix W: [out, in], or [in, out] if transposed.
        down: Factor A: [rank, in].
        up: Factor B: [out, rank].
        scale: Factor of the product.
        transposed: True if W is stored as [in, out].
        magnitude: DoRA's norms: [out]. The sum is scaled so that its rows (columns if transposed) have them.
        diagonal: AdaLoRA's diagonal: [rank, 1].
        whole: Reads a whole factor.
    """

    under: Source
    down: FileSource
    up: FileSource
    scale: float
    transposed: bool
    magnitude: FileSource | None
    diagonal: FileSource | None
    whole: Callable[[FileSource], torch.Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        out, in_ = self.up.shape[0], self.down.shape[1]
        return (in_, out) if self.transposed else (out, in_)

    @property
    def dtype(self) -> torch.dtype:
        widest = torch.promote_types(self.under.dtype, self.down.dtype)
        return torch.promote_types(widest, torch.float32)

    def read(self, start: int, stop: int) -> torch.Tensor:
        rows = self._sum(start, stop)
        if self.magnitude is None:
            return rows
        magnitude = self.whole(self.magnitude).to(self.dtype)
        if self.transposed:
            return rows * (magnitude / self._column_norms)
        return rows * (magnitude[start:stop] / torch.linalg.vector_norm(rows, dim=1))[:, None]

    def _sum(self, start: int, stop: int) -> torch.Tensor:
        """Return rows of W plus those of the product: [stop - start, shape[1]]."""
        rows, down = self.under.read(start, stop).to(self.dtype), self.whole(self.down).to(self.dtype)
        if self.diagonal is not None:
            down = down * self.whole(self.diagonal).to(self.dtype)
        if self.transposed:
            return torch.addmm(
                rows, down[:, start:stop].T, self.whole(self.up).to(self.dtype).T, alpha=self.scale
            )
        return torch.addmm(rows, self.up.read(start, stop).to(self.dtype), down, alpha=self.scale)

    @cached_property
    def _column_norms(self) -> torch.Tensor:
        """Norms of the sum's columns: [shape[1]]."""
        squares = torch.zeros(self.shape[1], dtype=torch.float64)
        for start in range(0, self.shape[0], _ROWS):
            rows = self._sum(start, min(start + _ROWS, self.shape[0]))
            squares += rows.double().square().sum(dim=0)
        return squares.sqrt().to(self.dtype)


@dataclass(frozen=True, eq=False)
class TokenRows:
    """An embedding with some rows replaced, and rows appended.

    Attributes:
        under: Embedding: [V, H].
        rows: Trained rows: [N, H].
        places: Place in `rows` of each row of the result, or -1 for the row of `under`: [V + new rows] int64.
    """

    under: Source
    rows: FileSource
    places: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.places), *self.under.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.under.dtype, self.rows.dtype)

    def read(self, start: int, stop: int) -> torch.Tensor:
        result = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        known = min(stop, self.under.shape[0])
        if start < known:
            result[: known - start] = self.under.read(start, known)
        for place in np.flatnonzero(self.places[start:stop] >= 0).tolist():
            row = int(self.places[start + place])
            result[place] = self.rows.read(row, row + 1)[0]
        return result
