"""Chosen layers train."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from cpt.training.trainable.base import (
    NEW_OR_NONE,
    NONE,
    Rows,
    Setup,
    TrainsConfig,
    WeightRates,
    rows_apart,
    rows_that_train,
)

if TYPE_CHECKING:
    from cpt.training.trainable.choice import Choice


class Layers(TrainsConfig):
    """Some of the layers train, whole; the rest of the model as far as is said."""

    kind: Literal["layers"] = Field(description="Chosen layers train.")
    layers: str = Field(
        description='Numbers and ranges, the first layer is 0, the last -1: "0-3,28-29", "-2--1"; or "none".',
    )
    embeddings: Rows | None = Field(
        default=None, description=f"Which rows of the embeddings train; {NEW_OR_NONE}"
    )
    head: Rows | None = Field(
        default=None,
        description="Which rows of the output embedding train; default: as in the input embedding.",
    )
    norms: bool = Field(default=False, description="Whether norms and biases of all other layers train, too.")
    embeddings_first: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the steps in which only the rows of new tokens train. The schedule runs on; "
        "what joins in late warms up for 20 steps (or a tenth of the rest).",
    )
    rates: WeightRates = Field(default=WeightRates(), description="Multiples of the schedule's rate.")

    @field_validator("layers", mode="before")
    @classmethod
    def _numbers_and_ranges(cls, given: Any) -> Any:
        text = re.sub(r"\s", "", str(given))
        item = r"-?\d+(--?\d+)?"
        if isinstance(given, str | int) and not re.fullmatch(rf"none|{item}(,{item})*", text):
            raise ValueError(f"`{given}` is none of: a layer (3), a range (0-3), several of them (0-3,-1)")
        return text if isinstance(given, str | int) else given

    @model_validator(mode="after")
    def _something_trains(self) -> Layers:
        if (
            self.layers == NONE
            and {self.embeddings or "frozen", self.head or "frozen"} == {"frozen"}
            and not self.norms
        ):
            raise ValueError("nothing trains: no layer, no embeddings, no head and no norms")
        return self

    def new_rows_apart(self, setup: Setup) -> bool:
        """See `TrainsConfig`."""
        embeddings = rows_that_train(self.embeddings, setup)
        return rows_apart([embeddings, self.head or embeddings], self.embeddings_first, self.rates)

    def choose(self, model: Any, setup: Setup) -> Choice:
        """See `TrainsConfig`."""
        from cpt.training.trainable.blocks import blocks_of, parse_layers
        from cpt.training.trainable.choice import choose_weights

        blocks = blocks_of(model)
        inside = tuple(f"{blocks.name}.{number}." for number in parse_layers(self.layers, len(blocks.layers)))
        names = [
            name
            for name, parameter in model.named_parameters()
            if name.startswith(inside) or (self.norms and parameter.ndim <= 1)
        ]
        embeddings = rows_that_train(self.embeddings, setup)
        return choose_weights(
            model, setup, self.rates, names, embeddings, self.head, first=self.embeddings_first
        )
