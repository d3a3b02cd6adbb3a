"""A model made deeper by copies of its layers that add nothing yet to what flows past them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cpt.errors import Problem, RecipeError
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.trainable.blocks import blocks_of

_OUTPUTS = frozenset({"o_proj", "out_proj", "c_proj", "dense", "down_proj", "fc2", "fc_out", "dense_4h_to_h"})
"""Names that architectures give the last matrix of attention and that of the feed-forward block."""


def expand(model: Any, every: int) -> list[str]:
    """Add after every `every` layers a copy of the last of them with zeroed output matrices, in place.

    The model computes what it did before. Its configuration names the new number of layers.

    Returns:
        Names of the added layers, as "model.layers.4".

    Raises:
        RecipeError: there are fewer layers, or the model is not built so that this works.
    """
    blocks = blocks_of(model)
    count = len(blocks.layers)
    if every > count:
        raise RecipeError([Problem(f"the model has only {count} layers", key="trainable.every")])
    origins = [
        number
        for layer in range(count)
        for number in ([layer, layer] if (layer + 1) % every == 0 else [layer])
    ]
    added = [place for place, number in enumerate(origins) if place and origins[place - 1] == number]
    before = _losses(model)
    _expand_config(model, origins)
    layers = [
        _copy(blocks.layers[number]) if place in added else blocks.layers[number]
        for place, number in enumerate(origins)
    ]
    for place, layer in enumerate(layers):
        _number(layer, place)
    for place in added:
        _silence(model, layers[place])
    del blocks.layers[:]
    blocks.layers.extend(layers)
    if not _same(before, _losses(model)):
        raise _unknown(model, "layers that add nothing change what it computes")
    return [f"{blocks.name}.{place}" for place in added]


def _number(layer: Any, place: int) -> None:
    """Tell a layer its place, which is that of its keys and values in a cache."""
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = place


def _copy(layer: nn.Module) -> nn.Module:
    """A layer with weights of its own that looks at the same configuration."""
    configs = [module.config for module in layer.modules() if hasattr(module, "config")]
    return copy.deepcopy(layer, {id(config): config for config in configs})


@torch.no_grad()
def _silence(model: Any, layer: nn.Module) -> None:
    """Zero what a layer adds to the stream that flows past it."""
    outputs: list[Any] = [
        module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in _OUTPUTS
    ]
    if len(outputs) != 2:
        raise _unknown(model, "the last matrices of its attention and feed-forward block are not known")
    for module in outputs:
        for parameter in module.parameters():
            parameter.zero_()


def _expand_config(model: Any, origins: Sequence[int]) -> None:
    """Let the configuration say of every layer what it says of the one that it comes from."""
    config = model.config.get_text_config()
    count = config.num_hidden_layers
    config.num_hidden_layers = len(origins)
    for key, value in config.to_dict().items():
        if "layer" not in key or not isinstance(value, list) or not value:
            continue
        if len(value) != count:
            raise _unknown(model, f"its configuration names layers by number, under {key}")
        setattr(config, key, [value[number] for number in origins])


def _unknown(model: Any, reason: str) -> RecipeError:
    message = f"{type(model).__name__} cannot be expanded: {reason}"
    return RecipeError([Problem(message, key="trainable.kind", hint="Train chosen layers (kind: layers).")])


def _losses(model: Any) -> torch.Tensor | None:
    """Losses of some tokens; None where the model is without weights."""
    embedding = model.get_input_embeddings().weight
    if embedding.is_meta:
        return None
    ids = torch.arange(1, 33) * 7919 % len(embedding)
    return PackedLanguageModel(model).token_nats(pack([ids.numpy()]).to(embedding.device))


def _same(before: torch.Tensor | None, after: torch.Tensor | None) -> bool:
    return before is None or after is None or torch.allclose(before, after, rtol=0, atol=1e-5)
