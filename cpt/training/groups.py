"""Trained weights in groups: what an optimizer treats alike, and what has a rate of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Kind = Literal["matrix", "embedding", "vector"]


@dataclass(frozen=True)
class Group:
    """Weights that train alike.

    Attributes:
        name: for people: "matrices", "embeddings", "norms and biases".
        kind: matrix (inside the layers), embedding (the vocabulary's input and output matrix) or vector
            (norms and biases, which have no weight decay).
        weights: float32 weights that the optimizer moves, by name.
        rate: multiple of the schedule's rate.
    """

    name: str
    kind: Kind
    weights: Mapping[str, nn.Parameter]
    rate: float = 1.0


def group_weights(model: Any, weights: Mapping[str, nn.Parameter]) -> list[Group]:
    """The trained weights of a model by kind; kinds of which nothing trains are left out.

    Args:
        weights: what the optimizer moves, under the names that the model's parameters have.
    """
    vocabulary = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    embeddings = {name for name, p in model.named_parameters() if any(p is matrix for matrix in vocabulary)}

    def chosen(kind: Kind) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in weights.items() if _kind(name, weight, embeddings) == kind}

    groups = [
        Group("matrices", "matrix", chosen("matrix")),
        Group("embeddings", "embedding", chosen("embedding")),
        Group("norms and biases", "vector", chosen("vector")),
    ]
    return [group for group in groups if group.weights]


def _kind(name: str, weight: nn.Parameter, embeddings: set[str]) -> Kind:
    if name in embeddings:
        return "embedding"
    return "matrix" if weight.ndim > 1 else "vector"
