"""A model's modules and parameters without its weights: what a model folder's tensors are for.

The model is built by the class that its config.json names, on PyTorch's meta device, which takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from cpt.errors import ModelError
from cpt.models.folder_files import CONFIG, read_object
from cpt.models.weights import StoredTensor

_MOST_LAYERS = 2_000
"""Twice as many as the deepest model known (DeepNet, arXiv 2203.00555): building layers takes time."""

_MOST_PARAMETERS = 10**14


def read_config(folder: Path) -> dict[str, Any]:
    """Read the folder's config.json.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        return read_object(folder / CONFIG)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG}") from error


def settings(folder: Path) -> Any:
    """Return the model's configuration, with transformers' defaults for what config.json leaves out.

    Raises:
        ModelError: transformers knows no such model, or config.json holds values that no model has.
    """
    from transformers import AutoConfig

    config = read_config(folder)
    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever a damaged file makes it raise
        if is_known(config):
            raise cannot_be_built(folder, error) from error
        raise _unknown(folder) from error
    layers = getattr(found.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and not 0 < layers <= _MOST_LAYERS:
        raise ModelError(
            f"{folder / CONFIG}: num_hidden_layers: {layers:,}: a model has 1 to {_MOST_LAYERS:,} layers",
            hint="Save or fetch the model again.",
        )
    return found


def is_known(config: Mapping[str, Any]) -> bool:
    """Return True unless config.json is of a model of which transformers has no code."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    return not isinstance(kind, str) or kind in CONFIG_MAPPING


def cannot_be_built(folder: Path, error: Exception) -> ModelError:
    """Return the error for a configuration of which transformers makes no model."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ModelError(
        f"{folder / CONFIG} describes no model that can be built: {type(error).__name__}: "
        f"{' '.join(lines)[:300]}",
        hint="Save or fetch the model again.",
    )


def generates(folder: Path) -> bool:
    """Whether the model generates text, token by token."""
    return bool(model_class(folder, settings(folder)).can_generate())


def counts_positions_from_padding(folder: Path) -> bool:
    """Whether positions are numbered from the padding token's id on, as RoBERTa does."""
    model = without_weights(folder)
    words = model.get_input_embeddings().weight.shape
    return any(
        module.padding_idx is not None and module.weight.shape != words
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
    )


def without_weights(folder: Path, *, more_tokens: int = 0) -> Any:
    """The model with shapes but no memory.

    Args:
        more_tokens: added to the size of its vocabulary.

    Raises:
        ModelError: transformers knows no such model, or cannot build it.
    """
    config = settings(folder)
    config.get_text_config().vocab_size += more_tokens
    try:
        with torch.device("meta"):
            model = model_class(folder, config)(config)
    except ModelError:
        raise
    except Exception as error:  # as in `settings`
        raise cannot_be_built(folder, error) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > _MOST_PARAMETERS:
        raise ModelError(
            f"{folder / CONFIG} describes a model of {parameters:,} parameters: more than any machine holds",
            hint="Save or fetch the model again.",
        )
    return model


def per_token(folder: Path) -> set[str]:
    """Names of the parameters whose shape follows the size of the vocabulary."""
    shapes, larger = (
        {name: tensor.shape for name, tensor in model.state_dict().items()}
        for model in (without_weights(folder), without_weights(folder, more_tokens=1))
    )
    return {name for name, shape in shapes.items() if shape != larger[name]}


class StoredNames:
    """Under which names a folder stores a model's parameters.

    Folders name them as the model does, with or without the prefix of the model that carries the head.
    Where transformers renames parameters on loading, it is the tensor that no other parameter has, of the
    right shape, whose name ends most alike.

    Args:
        model: without weights.
        stored: the folder's tensors.
    """

    def __init__(self, model: Any, stored: Mapping[str, StoredTensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self._prefix = f"{model.base_model_prefix}."
        self._stored = stored
        claimed = {candidate for name in self._shapes for candidate in self._candidates(name)}
        self._others = [name for name in stored if name not in claimed]

    def of(self, name: str) -> str | None:
        """The stored name of a parameter, or None."""
        for candidate in self._candidates(name):
            if candidate in self._stored:
                return candidate
        alike = [other for other in self._others if self._stored[other].shape == self._shapes[name]]
        best = max(alike, key=lambda other: _common_end(name, other), default=None)
        return best if best is not None and _common_end(name, best) else None

    def of_all(self, names: Iterable[str]) -> list[str]:
        """The different stored names of parameters."""
        return list(dict.fromkeys(found for name in names if (found := self.of(name)) is not None))

    def _candidates(self, name: str) -> tuple[str, str, str]:
        return name, name.removeprefix(self._prefix), self._prefix + name


def _common_end(name: str, other: str) -> int:
    """How many parts of two dotted names are the same, from the end."""
    pairs = zip(reversed(name.split(".")), reversed(other.split(".")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def model_class(folder: Path, config: Any) -> Any:
    """The class that config.json names; else the one for its kind of model with the largest head."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    for classes in (
        transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        transformers.MODEL_FOR_MASKED_LM_MAPPING,
        transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        transformers.MODEL_MAPPING,
    ):
        if type(config) in classes:
            return classes[type(config)]
    raise _unknown(folder)


def _unknown(folder: Path) -> ModelError:
    config = read_config(folder)
    names = config.get("architectures") or ["no architecture named"]
    return ModelError(
        f"{folder} holds no model that transformers knows ({', '.join(map(str, names))}, "
        f"model_type {config.get('model_type')!r})"
    )
