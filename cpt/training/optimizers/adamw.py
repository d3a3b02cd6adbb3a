"""AdamW for continual pretraining: fresh state, short memory, no decay where it makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group


class AdamW(BaseModel):
    """Settings of AdamW. β2 is 0.95: with fresh state 0.999 leaves the second moment noisy for long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs_whole_matrices: ClassVar[bool] = False
    """Whether the update of an element depends on more than its own gradients (then FSDP2 is refused)."""

    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decay of matrices; norms and biases have none."
    )

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        import torch

        return torch.optim.AdamW(
            [
                {
                    "params": list(group.weights.values()),
                    "weight_decay": 0.0 if group.kind == "vector" else self.weight_decay,
                    "name": group.name,
                    "multiple": group.rate,
                }
                for group in groups
            ],
            lr=0.0,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )
