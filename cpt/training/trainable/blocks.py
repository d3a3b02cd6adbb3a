"""The layers (transformer blocks) of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from cpt.errors import Problem, RecipeError
from cpt.training.trainable.base import NONE


@dataclass(frozen=True)
class Blocks:
    """A model's layers and their name in it ("model.layers")."""

    name: str
    layers: nn.ModuleList


def blocks_of(model: Any) -> Blocks:
    """Find the layers of a causal language model.

    Raises:
        RecipeError: it has no list of as many modules as its configuration names layers.
    """
    count = model.config.get_text_config().num_hidden_layers
    found = [
        Blocks(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not found:
        raise RecipeError(
            [Problem(f"{type(model).__name__} has no list of {count} layers", key="trainable.kind")]
        )
    return min(found, key=lambda blocks: blocks.name.count("."))


_ITEM = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def parse_layers(text: str, count: int) -> list[int]:
    """Layer numbers named by "0-3,28-29", ascending; negative numbers count from the end; "none" is none.

    Args:
        count: how many layers there are.

    Raises:
        RecipeError: a number beyond the last layer, or a range that ends before it begins.
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
        raise RecipeError(Problem(problem, key="trainable.layers") for problem in problems)
    return sorted(chosen)
