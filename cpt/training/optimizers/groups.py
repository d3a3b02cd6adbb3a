"""Parameter groups: trained weights that an optimizer treats alike and that share a multiple of the rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
Kind = Literal["matrix", "embedding", "vector", "adapter"]
Part = Literal["matrices", "embeddings", "new_tokens", "norms", "adapters"]
"""Part of a model that can have a multiple of the rate, by its key under `rates:`."""

NEW_ROWS = ".new_rows"
"""Suffix of the name of new tokens' rows that are weights of their own; the matrix's name precedes it."""

TOKEN_ROWS = ".trainable_tokens_delta."
"""Part of the name of new tokens' rows that peft makes weights of their own."""

NEW_TOKENS = "new tokens"
"""Name of the group of new tokens' rows that train separately."""

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
        name: Name for people: "matrices", "embeddings", "new tokens", "norms and biases", "adapters".
        kind: "matrix" (inside the layers), "embedding" (the input and output embedding, or rows of them, and
            tables of positions), "vector" (norms, biases and DoRA's magnitudes, without weight decay) or
            "adapter" (low-rank factors).
        weights: Float32 weights that the optimizer moves, by name.
        rate: Multiple of the schedule's rate.
    """

    name: str
    kind: Kind
    weights: Mapping[str, nn.Parameter]
    rate: float = 1.0


def group_weights(
    model: Any, weights: Mapping[str, nn.Parameter], rates: Mapping[Part, float] | None = None
) -> list[Group]:
    """Return the trained weights of a model in groups, without empty groups.

    Args:
        model: Causal language model.
        weights: Weights that the optimizer moves, under the names of the model's parameters.
        rates: Multiples of the schedule's rate by part; 1 where a part is missing.
    """
    by_part = sort_weights(model, weights)
    return [
        Group(name, part_and_kind[1], by_part[part_and_kind], (rates or {}).get(part_and_kind[0], 1.0))
        for part_and_kind, name in _GROUPS.items()
        if part_and_kind in by_part
    ]


def sort_weights(
    model: Any, weights: Mapping[str, nn.Parameter]
) -> dict[tuple[Part, Kind], dict[str, nn.Parameter]]:
    """Return weights by the part of the model that they belong to, and by kind."""
    from torch import nn

    # not their attribute `weight`, which peft computes for rows of new tokens, and cannot for sharded weights
    vocabulary = [model.get_input_embeddings(), model.get_output_embeddings()]
    tables = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    matrices = {id(matrix) for part in [*vocabulary, *tables] for matrix in part.parameters()}
    embeddings = {name for name, parameter in model.named_parameters() if id(parameter) in matrices}
    found: dict[tuple[Part, Kind], dict[str, nn.Parameter]] = {}
    for name, weight in weights.items():
        found.setdefault(_part_and_kind(name, weight, embeddings), {})[name] = weight
    return found


def _part_and_kind(name: str, weight: nn.Parameter, embeddings: set[str]) -> tuple[Part, Kind]:
    if name.endswith(NEW_ROWS) or TOKEN_ROWS in name:
        return "new_tokens", "embedding"
    if name in embeddings:
        return "embeddings", "embedding"
    if ".lora_" in name:
        return "adapters", "adapter" if weight.ndim > 1 else "vector"
    return ("matrices", "matrix") if weight.ndim > 1 else ("norms", "vector")


def is_matrix(kind: Kind, shape: Sequence[int]) -> bool:
    """Return True for a matrix or a stack of matrices (experts), False for a row of separate numbers."""
    return kind == "matrix" and len(shape) > 1 and min(shape[-2:]) > 1


def param_group(group: Group, weights: Mapping[str, nn.Parameter], weight_decay: float) -> dict[str, Any]:
    """Return a group, or some of its weights, in the form that torch's optimizers take."""
    return {
        "params": list(weights.values()),
        "weight_decay": 0.0 if group.kind == "vector" else weight_decay,
        "name": group.name,
        "multiple": group.rate,
    }
