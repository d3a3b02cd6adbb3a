"""AdamW for continual pretraining: fresh state, short memory, no decay where it makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import OptimizerConfig, Shape, adamw_bytes, param_group

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group, Kind


class AdamW(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), in torch's fused kernel."""

    kind: Literal["adamw"] = Field(default="adamw", description="AdamW with float32 moments.")

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        import torch

        return torch.optim.AdamW(
            [param_group(group, group.weights, self.weight_decay) for group in groups],
            lr=0.0,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )

    def state_bytes(self, kind: Kind, shape: Shape) -> int:  # noqa: ARG002
        """Two moments in float32, and the count of steps."""
        return adamw_bytes(shape)
