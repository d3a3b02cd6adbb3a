"""A model on the meta device whose parameters know their initial values, to be read by rows.

A process that holds a shard of a model then reads its own rows of each tensor, and no others. What is put
into such a model later (adapters, added layers) gets initial values in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cpt.models import attention
from cpt.models.loading import check_model, settings
from cpt.models.packed_model import explained, require_language_model
from cpt.models.weights import StoredTensor, load_rows, load_tensor, stored_tensors

Rows = Callable[[int, int], torch.Tensor]
"""Function that returns rows [start, stop) of a tensor's initial values, on the CPU."""

_ROWS = "initial_rows"
"""Attribute of a tensor without values: its `Rows`."""


def initial_rows(tensor: torch.Tensor) -> Rows | None:
    """Return the function that gives a tensor's initial values, if it is known."""
    rows: Rows | None = getattr(tensor, _ROWS, None)
    return rows


def set_initial_rows(tensor: torch.Tensor, rows: Rows | None) -> None:
    """Set the initial values of a tensor, if it is on the meta device."""
    if tensor.is_meta:
        setattr(tensor, _ROWS, rows)


def is_unloaded(model: torch.nn.Module) -> bool:
    """Return True if a model has parameters on the meta device."""
    return any(parameter.is_meta for parameter in model.parameters())


def unloaded_model(folder: Path, attention_implementation: str = attention.NAME) -> Any:
    """Return the model of a folder on the meta device, in float32; its buffers are real.

    None if its parameters are not the tensors in the files, one for one and under their names: transformers
    composes some parameters of several tensors (experts), and renames others. None, too, if it does not say
    how a buffer that is not stored is computed. Such a model must be loaded whole.

    Args:
        folder: model folder with safetensors weights.
        attention_implementation: see `load_model`.

    Raises:
        ModelError: the folder is damaged, or its weights are not all of this model's.
        StageFailed: the model is of a kind that cannot be used here.
    """
    from transformers import AutoModelForCausalLM

    attention.register()
    check_model(folder)
    config = settings(folder)
    with explained(folder), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation=attention_implementation,
            trust_remote_code=False,
        )
    require_language_model(model, folder)
    stored = stored_tensors(folder)
    if getattr(config, "quantization_config", None) is not None or not _one_for_one(model, stored):
        return None
    if not _make_buffers(model, stored):
        return None
    _set_generation_settings(model, folder)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in stored:
            set_initial_rows(parameter, partial(load_rows, stored[name], name))
    return model.eval()


def stores_its_parameters(model: Any) -> bool:
    """Return True if transformers stores every parameter of a class as one tensor of its name."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    return not get_model_conversion_mapping(model, add_legacy=False)


def _one_for_one(model: Any, stored: Mapping[str, StoredTensor]) -> bool:
    """Return True if every parameter is one stored tensor of its shape and name; tied ones are one."""
    if not stores_its_parameters(model):
        return False
    names: dict[int, list[str]] = {}
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return (
        all(sum(name in stored for name in tied) == 1 for tied in names.values())
        and stored.keys() <= shapes.keys()
        and all(tensor.shape == shapes[name] for name, tensor in stored.items())
    )


def _set_generation_settings(model: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)


@torch.no_grad()
def _make_buffers(model: Any, stored: Mapping[str, StoredTensor]) -> bool:
    """Give buffers their values: those that are stored, and those that transformers computes on loading.

    Returns:
        False if nothing gives some buffer a value: it then keeps what it was filled with.
    """
    made: list[dict[str, torch.Tensor]] = []
    for filling in (0, 1):
        for module in model.modules():
            for name, buffer in module._buffers.items():
                empty = None if buffer is None else torch.full_like(buffer, filling, device="cpu")
                module._buffers[name] = empty
            if hasattr(module, "_is_hf_initialized"):
                del module._is_hf_initialized
        model.initialize_weights()  # parameters have no memory: that leaves buffers
        made.append(dict(model.named_buffers()))
    for name, buffer in model.named_buffers():
        if name in stored:
            buffer.copy_(load_tensor(stored[name], name))
    return all(name in stored or torch.equal(each, made[1][name]) for name, each in made[0].items())
