"""Layer selection: chosen layers (transformer blocks) train."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from cpt.errors import Problem, RecipeError
from cpt.training.trainable.spec import (
    NEW_OR_NONE,
    NONE,
    Rows,
    Setup,
    TrainableConfig,
    TrainableSpec,
    WeightRates,
    resolved_rows,
    select_weights,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LayerList:
    """The layers of a model, and their name in it ("model.layers")."""

    name: str
    layers: nn.ModuleList


def find_layers(model: Any) -> LayerList:
    """Return the layers of a causal language model.

    Raises:
        RecipeError: The model has no list of modules as long as the number of layers in its configuration.
    """
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    found = [
        LayerList(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not found:
        raise RecipeError([Problem(f"{type(model).__name__} has no list of {count} layers", key="kind")])
    return min(found, key=lambda layers: layers.name.count("."))


_ITEM = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def parse_layers(text: str, count: int) -> list[int]:
    """Return the layer numbers in "0-3,28-29", ascending; negative numbers count from the end.

    Args:
        text: Numbers and ranges, or "none".
        count: Number of layers.

    Raises:
        RecipeError: A number is beyond the last layer, or a range ends before it begins.
    """
    if text == NONE:
        return []
    chosen: set[int] = set()
    problems = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        assert match, "the settings refuse other text"
        first, last = (int(match[1]), int(match[2] or match[1]))
        if not all(-count <= number < count for number in (first, last)):
            problems.append(f"{item} is not within the model's {count} layers, 0 to {count - 1}")
            continue
        first, last = first % count, last % count
        if first > last:
            problems.append(f"{item} ends before it begins: layer {first} to layer {last}")
        chosen.update(range(first, last + 1))
    if problems:
        raise RecipeError(Problem(problem, key="layers") for problem in problems)
    return sorted(chosen)


class Layers(TrainableConfig):
    """Settings of layer selection: some layers train, and chosen rows of the embeddings."""

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
    norms: bool = Field(default=False, description="Train norms and biases of all other layers, too.")
    embeddings_first: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the steps in which only the rows of new tokens train. The schedule runs on; "
        "weights that join late warm up for 20 steps (or a tenth of the rest).",
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

    def apply(self, model: Any, setup: Setup) -> TrainableSpec:
        """See `TrainableConfig`."""
        found = find_layers(model)
        inside = tuple(f"{found.name}.{number}." for number in parse_layers(self.layers, len(found.layers)))
        names = [
            name
            for name, parameter in model.named_parameters()
            if name.startswith(inside) or (self.norms and parameter.ndim <= 1)
        ]
        embeddings = resolved_rows(self.embeddings, setup)
        return select_weights(
            model, setup, self.rates, names, embeddings, self.head, first=self.embeddings_first
        )
