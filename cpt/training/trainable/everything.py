"""Every weight trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.training.trainable.base import Setup, TrainsConfig, WeightRates, rows_apart

if TYPE_CHECKING:
    from cpt.training.trainable.choice import Choice


class All(TrainsConfig):
    """Every weight trains; on request the rows of new tokens alone at first."""

    kind: Literal["all"] = Field(default="all", description="Every weight trains.")
    embeddings_first: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the steps in which only the rows of new tokens train. The schedule runs on; "
        "what joins in late warms up for 20 steps (or a tenth of the rest).",
    )
    rates: WeightRates = Field(default=WeightRates(), description="Multiples of the schedule's rate.")

    def new_rows_apart(self, setup: Setup) -> bool:  # noqa: ARG002
        """See `TrainsConfig`."""
        return rows_apart(["all"], self.embeddings_first, self.rates)

    def choose(self, model: Any, setup: Setup) -> Choice:
        """See `TrainsConfig`."""
        from cpt.training.trainable.choice import choose_weights

        names = [name for name, _ in model.named_parameters()]
        return choose_weights(model, setup, self.rates, names, "all", first=self.embeddings_first)
