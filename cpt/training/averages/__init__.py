"""Averages of the weights that a run passes through; what computes them is in `cpt.training.averages.kept`.

The average is the run's result. Probes read it, too: what they tell is what the run would give if it ended
there. Training itself does not see it: the optimizer moves the weights, and milestones (and the model before
an anneal) are weights to go on training from, not averages. An average is a part of every checkpoint; its
memory is free again when the run has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from cpt.training.averages.kept import AverageOf


class Ema(BaseModel):
    """Exponential moving average: every step's weights, each counting `decay` times as much as the next.

    mean_t = Σ_{i<=t} decay^(t-i) w_i / Σ_{i<=t} decay^(t-i). The starting weights are not among them: the
    usual recursion from w_0, with the bias towards it taken out as Adam does it (Kingma and Ba 2015, arXiv
    1412.6980, section 3). It takes 4 bytes of the device's memory per trained weight, twice that while probes
    read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["ema"] = Field(description="An exponential moving average of every step's weights.")
    decay: float = Field(
        default=0.999,
        gt=0,
        lt=1,
        description="How much a step's weights count against the next step's: about 1/(1 - decay) of the "
        "last steps count.",
    )

    def of(self, weights: Mapping[str, torch.Tensor], publish: Callable[[], None]) -> AverageOf:
        """The average of some weights, before the first step.

        Args:
            weights: float32, by name, that the optimizer moves.
            publish: lets the model see them after they were changed.
        """
        from cpt.training.averages.kept import MovingAverage

        return MovingAverage(weights, publish, self.decay)

    @property
    def copies(self) -> int:
        """Float32 copies of the trained weights that it holds at most."""
        return 1


class Lawa(BaseModel):
    """Latest weight averaging: the mean of the weights at a few of the last steps, far apart.

    Kaddour 2022 (arXiv 2209.14981); Sanyal et al. 2023 (arXiv 2306.03241), who find that it gains most where
    rates are high and checkpoints distant. Until there are `last` of them it is the mean of those that there
    are. Each takes 4 bytes of main memory per trained weight (of the device's where the weights are divided
    among processes).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["lawa"] = Field(description="The mean of the weights at a few of the last steps.")
    every: int = Field(default=10, gt=0, description="Steps between the weights that are averaged.")
    last: int = Field(default=6, gt=1, description="How many of them are averaged, the latest ones.")

    def of(self, weights: Mapping[str, torch.Tensor], publish: Callable[[], None]) -> AverageOf:
        """See `Ema.of`."""
        from cpt.training.averages.kept import LatestAverage

        return LatestAverage(weights, publish, self.every, self.last)

    @property
    def copies(self) -> int:
        """See `Ema.copies`."""
        return self.last


Average = Annotated[Ema | Lawa, Field(discriminator="kind")]
"""Settings of any average, told apart by `kind`."""

__all__ = ["Average", "Ema", "Lawa"]
