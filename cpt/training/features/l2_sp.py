"""Decay every trained weight towards where it started, beside the loss and not through it: L2-SP.

L2-SP (Li et al. 2018, arXiv 1802.01483) adds strength/2 · ||w - w_0||² to the loss. Under Adam its gradient
would be divided by the loss's second moment, so that a weight with large gradients would hardly decay. So the
decay is taken out of the moments, as AdamW does with the decay towards zero and RecAdam (Chen et al. 2020,
arXiv 2004.12651, section 3.3) with this one. With a group's rate η_t a step begins with

    w ← w - η_t · strength · (w - w_0)

and continues as the optimizer has it. The decay towards zero (`optimizer.weight_decay`) is separate and stays
unless it is set to 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem
from cpt.training.feature import ExtraMemory, Run, RunFacts, TrainingFeature, WeightBytes

if TYPE_CHECKING:
    import torch

    from cpt.training.settings import TrainingConfig


class L2SPConfig(BaseModel):
    """Settings of the decay of weights towards where they started."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strength: float = Field(
        gt=0,
        description="A step takes back this times its rate of a weight's distance from its start: 100 at a "
        "rate of 3e-4 takes back 3%.",
    )


class L2SP(TrainingFeature):
    """The decay of every trained weight towards its start.

    It has no state in checkpoints: the starting weights are the model's own, before a checkpoint is restored.
    """

    def __init__(self, config: L2SPConfig) -> None:
        self._strength = config.strength

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        return None if config.l2_sp is None else cls(config.l2_sp)

    def problems(self, facts: RunFacts) -> list[Problem]:
        """Return a problem for an adapter, and for steps that would overshoot the start."""
        problems = []
        if facts.config.trainable.kind == "lora":
            problems.append(
                Problem(
                    "L2-SP on an adapter's two factors is not L2-SP on the weights that they make",
                    key="l2_sp",
                    hint="Leave it out, or train without an adapter.",
                )
            )
        rate = facts.config.schedule.highest * max([1.0, *facts.config.trainable.rates.multiples().values()])
        if (share := rate * self._strength) > 1:
            problems.append(
                Problem(
                    f"at a rate of {rate:g} a step would take back {share:g} times the distance from the "
                    "start",
                    key="l2_sp.strength",
                    hint=f"Set it to {1 / rate:g} at most.",
                )
            )
        return problems

    def describe(self) -> str:
        return "weights decay towards their start (L2-SP)"

    def extra_bytes(self, weights: WeightBytes) -> ExtraMemory:
        """Return the memory of the start: as much as the optimizer moves, 4 bytes per weight or 2."""
        return ExtraMemory(held=weights.trained)

    def on_start(self, run: Run) -> None:
        self.attach(run.optimizer)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let every step of an optimizer, whose weights are at their start now, begin with the decay."""
        starts = {
            weight: weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]
        }

        def l2_sp(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:  # it moves in this step
                        weight.data.lerp_(starts[weight].to(weight.dtype), group["lr"] * self._strength)

        optimizer.register_step_pre_hook(l2_sp)
