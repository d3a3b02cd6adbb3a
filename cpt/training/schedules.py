"""Learning-rate schedules: pure functions of progress."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Schedule(BaseModel):
    """How the learning rate moves. `rewarm-cosine` follows Ibrahim et al. 2024 (arXiv 2403.08763)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rewarm-cosine", "constant"] = Field(
        default="rewarm-cosine",
        description="rewarm-cosine: warm up to the peak, decay to the floor; constant: stay at the peak.",
    )
    peak: float = Field(default=3e-4, gt=0, description="Highest learning rate.")
    floor: float = Field(default=3e-5, ge=0, description="Learning rate at the end of the cosine.")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps spent warming up.")

    @model_validator(mode="after")
    def _floor_below_peak(self) -> Schedule:
        if self.floor > self.peak:
            raise ValueError(f"floor {self.floor:g} is above peak {self.peak:g}")
        return self

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of optimizer step `step` (0 is the first) of `steps`.

        Warm-up is linear and its first step is not zero: a fresh AdamW always moves. The cosine reaches
        the floor at the last step.
        """
        warmup = round(self.warmup * steps)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        if self.kind == "constant":
            return self.peak
        progress = (step - warmup) / max(1, steps - 1 - warmup)
        return self.floor + (self.peak - self.floor) / 2 * (1 + math.cos(math.pi * min(1.0, progress)))
