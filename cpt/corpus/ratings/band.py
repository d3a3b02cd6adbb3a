"""Bound ratings from below and above: text that is too easy teaches nothing, text that is too hard is noise.

Marion et al. (2023, arXiv 2309.04564) find that the middle of the perplexities trains better than either end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Band(BaseModel):
    """Two bounds of bits per byte, given as quantiles of the documents or as values; both are included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantiles: tuple[float, float] | None = Field(
        default=None,
        description="Lower and upper quantile, 0 to 1, of the documents that can be selected; a plain list "
        "means this.",
    )
    bits_per_byte: tuple[float, float] | None = Field(
        default=None, description="Lower and upper bound in bits per byte."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_list(cls, value: Any) -> Any:
        return {"quantiles": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_kind(self) -> Band:
        if (self.quantiles is None) == (self.bits_per_byte is None):
            raise ValueError("give either quantiles or bits_per_byte")
        low, high = self.quantiles or self.bits_per_byte or (0.0, 0.0)
        if not low < high:
            raise ValueError(f"the lower bound {low:g} is not below the upper bound {high:g}")
        if self.quantiles and not (low >= 0 and high <= 1):
            raise ValueError("quantiles are from 0 to 1; give values as {bits_per_byte: [low, high]}")
        return self

    def limits(self, ratings: np.ndarray) -> tuple[float, float]:
        """Return both bounds in bits per byte, for ratings (documents,)."""
        if self.quantiles is None:
            assert self.bits_per_byte is not None
            return self.bits_per_byte
        low, high = np.quantile(ratings, self.quantiles)
        return float(low), float(high)
