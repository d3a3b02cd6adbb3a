"""A pull of every weight that trains towards where it started, beside the loss and not through it.

L2-SP (Li et al. 2018, arXiv 1802.01483) adds strength/2 · ||w - w_0||² to the loss. Under Adam its gradient
would be divided by the loss's second moment, and a weight be pulled the less, the larger its gradients are;
so the pull is taken out of the moments, as AdamW does with the decay towards zero and RecAdam (Chen et al.
2020, arXiv 2004.12651, section 3.3) with the pull. With a group's rate η_t a step begins with

    w ← w - η_t · strength · (w - w_0)

and goes on as the optimizer has it. Its decay towards zero (`optimizer.weight_decay`) is another pull, which
stays unless it is set to 0. The start takes as much memory as what the optimizer moves: 4 bytes a weight, 2
where weights are rounded by chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch


class L2SP(BaseModel):
    """How strongly weights are pulled back to where they started."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strength: float = Field(
        gt=0,
        description="A step takes back this times its rate of a weight's distance from its start: 100 at a "
        "rate of 3e-4 takes back 3%.",
    )

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let every step of an optimizer, whose weights are at their start now, begin with the pull."""
        starts = {
            weight: weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]
        }

        def l2_sp(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:  # it moves in this step
                        weight.data.lerp_(starts[weight].to(weight.dtype), group["lr"] * self.strength)

        optimizer.register_step_pre_hook(l2_sp)
