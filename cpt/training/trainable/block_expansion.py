"""Block expansion: the model gets copies of its layers that add nothing at first; only they train.

Wu et al. 2024, LLaMA Pro (arXiv 2401.02415), section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cpt.errors import Problem, RecipeError
from cpt.training.trainable.layers import find_layers
from cpt.training.trainable.spec import (
    NEW_OR_NONE,
    Rows,
    Setup,
    TrainableConfig,
    TrainableSpec,
    WeightRates,
    resolved_rows,
    select_weights,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


_OUTPUTS = frozenset({"o_proj", "out_proj", "c_proj", "dense", "down_proj", "fc2", "fc_out", "dense_4h_to_h"})
"""Names of the last matrix of attention and of the feed-forward block in known architectures."""


def expand(model: Any, every: int) -> list[str]:
    """Add after every `every` layers a copy of the last of them with zeroed output matrices, in place.

    The model computes the same as before. Its configuration has the new number of layers.

    Returns:
        Names of the added layers, such as "model.layers.4".

    Raises:
        RecipeError: The model has fewer layers, or its architecture is not supported.
    """
    found = find_layers(model)
    count = len(found.layers)
    if every > count:
        raise RecipeError([Problem(f"the model has only {count} layers", key="every")])
    origins = [
        number
        for layer in range(count)
        for number in ([layer, layer] if (layer + 1) % every == 0 else [layer])
    ]
    added = [index for index, number in enumerate(origins) if index and origins[index - 1] == number]
    before = _losses(model)
    _expand_config(model, origins)
    layers = [
        _copy(found.layers[number]) if index in added else found.layers[number]
        for index, number in enumerate(origins)
    ]
    for index, layer in enumerate(layers):
        _number(layer, index)
    for index in added:
        _zero_outputs(model, layers[index])
    del found.layers[:]
    found.layers.extend(layers)
    if not _same(before, _losses(model)):
        raise _unknown(model, "layers that add nothing change what it computes")
    return [f"{found.name}.{index}" for index in added]


def _number(layer: Any, index: int) -> None:
    """Set the index of a layer, by which a cache finds its keys and values."""
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = index


def _copy(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer with weights of its own and the same configuration object."""
    from cpt.models.unloaded_model import initial_rows, set_initial_rows

    configs = [module.config for module in layer.modules() if hasattr(module, "config")]
    copied = copy.deepcopy(layer, {id(config): config for config in configs})
    for before, after in zip(layer.parameters(), copied.parameters(), strict=True):
        set_initial_rows(after, initial_rows(before))
    return copied


def _zero_outputs(model: Any, layer: nn.Module) -> None:
    """Zero the matrices whose outputs a layer adds to the residual stream."""
    import torch

    from cpt.models.unloaded_model import set_initial_rows

    outputs: list[Any] = [
        module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in _OUTPUTS
    ]
    if len(outputs) != 2:
        raise _unknown(model, "the last matrices of its attention and feed-forward block are not known")
    with torch.no_grad():
        for module in outputs:
            for parameter in module.parameters():
                parameter.zero_()
                set_initial_rows(parameter, partial(_zero_rows, parameter.shape[1:]))


def _zero_rows(rest: torch.Size, start: int, stop: int) -> torch.Tensor:
    import torch

    return torch.zeros(stop - start, *rest)


def _expand_config(model: Any, origins: Sequence[int]) -> None:
    """Extend the configuration: every layer gets the entries of the layer that it was copied from."""
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
    return RecipeError([Problem(message, key="kind", hint="Train chosen layers (kind: layers).")])


def _losses(model: Any) -> torch.Tensor | None:
    """Return the losses of some tokens; None if the model has no weights."""
    import torch

    from cpt.models.batch import pack
    from cpt.models.packed_model import PackedLanguageModel

    embedding = model.get_input_embeddings().weight
    if embedding.is_meta:
        return None
    ids = torch.arange(1, 33) * 7919 % len(embedding)
    return PackedLanguageModel(model).per_token_loss(pack([ids.numpy()]).to(embedding.device))


def _same(before: torch.Tensor | None, after: torch.Tensor | None) -> bool:
    import torch

    return before is None or after is None or torch.allclose(before, after, rtol=0, atol=1e-5)


class Expansion(TrainableConfig):
    """Settings of block expansion: a copy with zero outputs follows every few layers; the copies train."""

    moves_own_weights: ClassVar[bool] = False

    kind: Literal["expansion"] = Field(description="Layers are added, and only they train (LLaMA Pro).")
    every: int = Field(default=4, ge=1, description="Layers after which a copy of the last of them is added.")
    embeddings: Rows | None = Field(
        default=None, description=f"Which rows of the embeddings train, too; {NEW_OR_NONE}"
    )
    rates: WeightRates = Field(default=WeightRates(), description="Multiples of the schedule's rate.")

    def apply(self, model: Any, setup: Setup) -> TrainableSpec:
        """See `TrainableConfig`. Adds the layers to the model."""
        added = tuple(f"{name}." for name in expand(model, self.every))
        names = [name for name, _ in model.named_parameters() if name.startswith(added)]
        # behind a zero matrix there is no gradient in the first step
        embeddings = resolved_rows(self.embeddings, setup)
        spec = select_weights(model, setup, self.rates, names, embeddings, settling_steps=2)
        return replace(spec, added_layers=tuple(name.removesuffix(".") for name in added))
