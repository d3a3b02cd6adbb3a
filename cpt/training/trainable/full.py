"""Full training: every weight trains."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cpt.training.trainable.spec import (
    Setup,
    TrainableConfig,
    TrainableSpec,
    WeightRates,
    select_weights,
)


class All(TrainableConfig):
    """Settings of full training; on request only the rows of new tokens train at first."""

    kind: Literal["all"] = Field(default="all", description="Every weight trains.")
    embeddings_first: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the steps in which only the rows of new tokens train. The schedule runs on; "
        "weights that join late warm up for 20 steps (or a tenth of the rest).",
    )
    rates: WeightRates = Field(default=WeightRates(), description="Multiples of the schedule's rate.")

    def apply(self, model: Any, setup: Setup) -> TrainableSpec:
        """See `TrainableConfig`."""
        names = [name for name, _ in model.named_parameters()]
        return select_weights(model, setup, self.rates, names, "all", first=self.embeddings_first)
