"""AdamW for continual pretraining: fresh state, short memory, no decay of norms and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import OptimizerConfig, adamw_bytes
from cpt.training.optimizers.groups import Group, Kind, Shape, param_group

if TYPE_CHECKING:
    import torch


class AdamW(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), in torch's fused kernel."""

    kind: Literal["adamw"] = Field(default="adamw", description="AdamW with float32 moments.")

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer of these groups. The loop sets the rate of each group before a step."""
        import torch

        return torch.optim.AdamW(
            [param_group(group, group.weights, self.weight_decay) for group in groups],
            lr=0.0,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )

    def state_bytes(self, kind: Kind, shape: Shape) -> int:  # noqa: ARG002
        """Return the bytes of two moments in float32 and of the step count."""
        return adamw_bytes(shape)
