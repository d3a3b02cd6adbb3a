"""AdamW for continual pretraining: fresh state, short memory, no decay where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import nn


class AdamW(BaseModel):
    """Settings of AdamW. β2 is 0.95: with fresh state 0.999 leaves the second moment noisy for long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decay of matrices; norms and biases have none."
    )

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """The optimizer of some weights, in two groups: decayed and not."""
        import torch

        every = list(weights)
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=0.0,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )
