"""Trained weights in groups: what an optimizer treats alike, and what has a rate of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Kind = Literal["matrix", "embedding", "vector", "adapter"]
Part = Literal["matrices", "embeddings", "new_tokens", "norms", "adapters"]
"""What can have a multiple of the rate of its own, by its key under `rates:`."""

NEW_ROWS = ".new_rows"
"""Ends the name of rows of new tokens that are weights of their own; their matrix's name stands before it."""

TOKEN_ROWS = ".trainable_tokens_delta."
"""Stands in the name of the rows of new tokens that peft makes weights of their own."""

NEW_TOKENS = "new tokens"
"""Name of the group of rows of new tokens that train apart."""

_GROUPS: Mapping[tuple[Part, Kind], str] = {
    ("matrices", "matrix"): "matrices",
    ("adapters", "adapter"): "adapters",
    ("embeddings", "embedding"): "embeddings",
    ("new_tokens", "embedding"): NEW_TOKENS,
    ("norms", "vector"): "norms and biases",
    ("adapters", "vector"): "adapter magnitudes",
}


@dataclass(frozen=True)
class Group:
    """Weights that train alike.

    Attributes:
        name: for people: "matrices", "embeddings", "new tokens", "norms and biases", "adapters".
        kind: matrix (inside the layers), embedding (the vocabulary's input and output matrix or rows of
            it, and tables of positions), vector (norms, biases and DoRA's magnitudes, which have no weight
            decay) or adapter (low-rank factors).
        weights: float32 weights that the optimizer moves, by name.
        rate: multiple of the schedule's rate.
    """

    name: str
    kind: Kind
    weights: Mapping[str, nn.Parameter]
    rate: float = 1.0


def group_weights(
    model: Any, weights: Mapping[str, nn.Parameter], rates: Mapping[Part, float] | None = None
) -> list[Group]:
    """The trained weights of a model in groups; groups of which nothing trains are left out.

    Args:
        weights: what the optimizer moves, under the names that the model's parameters have.
        rates: multiples of the schedule's rate; 1 for parts that are not named.
    """
    sorted_weights = sort_weights(model, weights)
    return [
        Group(name, place[1], sorted_weights[place], (rates or {}).get(place[0], 1.0))
        for place, name in _GROUPS.items()
        if place in sorted_weights
    ]


def sort_weights(
    model: Any, weights: Mapping[str, nn.Parameter]
) -> dict[tuple[Part, Kind], dict[str, nn.Parameter]]:
    """Weights by what they are part of and by kind."""
    vocabulary = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
    matrices = {id(matrix) for matrix in [*vocabulary, *tables]}
    embeddings = {name for name, parameter in model.named_parameters() if id(parameter) in matrices}
    found: dict[tuple[Part, Kind], dict[str, nn.Parameter]] = {}
    for name, weight in weights.items():
        found.setdefault(_place(name, weight, embeddings), {})[name] = weight
    return found


def _place(name: str, weight: nn.Parameter, embeddings: set[str]) -> tuple[Part, Kind]:
    if name.endswith(NEW_ROWS) or TOKEN_ROWS in name:
        return "new_tokens", "embedding"
    if name in embeddings:
        return "embeddings", "embedding"
    if ".lora_" in name:
        return "adapters", "adapter" if weight.ndim > 1 else "vector"
    return ("matrices", "matrix") if weight.ndim > 1 else ("norms", "vector")
