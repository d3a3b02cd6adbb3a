"""Block expansion: new layers that at first do nothing train, the model's own stay.

Wu et al. 2024, LLaMA Pro (arXiv 2401.02415), section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.training.trainable.base import (
    NEW_OR_NONE,
    Rows,
    Setup,
    TrainsConfig,
    WeightRates,
    rows_apart,
    rows_that_train,
)

if TYPE_CHECKING:
    from cpt.training.trainable.choice import Choice


class Expansion(TrainsConfig):
    """After every few layers a copy is added whose outputs are zero; the copies train."""

    kind: Literal["expansion"] = Field(description="Layers are added, and only they train (LLaMA Pro).")
    every: int = Field(default=4, ge=1, description="Layers after which a copy of the last of them is added.")
    embeddings: Rows | None = Field(
        default=None, description=f"Which rows of the embeddings train, too; {NEW_OR_NONE}"
    )
    rates: WeightRates = Field(default=WeightRates(), description="Multiples of the schedule's rate.")

    def new_rows_apart(self, setup: Setup) -> bool:
        """See `TrainsConfig`."""
        return rows_apart([rows_that_train(self.embeddings, setup)], 0.0, self.rates)

    def choose(self, model: Any, setup: Setup) -> Choice:
        """See `TrainsConfig`. Adds the layers to the model."""
        from cpt.training.trainable.choice import choose_weights
        from cpt.training.trainable.growth import expand

        added = tuple(f"{name}." for name in expand(model, self.every))
        names = [name for name, _ in model.named_parameters() if name.startswith(added)]
        # behind a zero matrix there is no gradient in the first step
        embeddings = rows_that_train(self.embeddings, setup)
        return choose_weights(model, setup, self.rates, names, embeddings, settling=2)
