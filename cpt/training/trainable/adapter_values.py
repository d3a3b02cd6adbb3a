"""Initial values of adapters around a model on the meta device, where peft makes them without values.

They are those that peft gives adapters around the same model with its values: random numbers in the same
order, DoRA's magnitudes from the rows of the matrices, and copies of rows of the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.models.unloaded_model import Rows, initial_rows, set_initial_rows


@contextmanager
def drawn_values_kept() -> Iterator[None]:
    """Keep the numbers that peft draws in the block, before it moves them to the device of the matrices."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    move = BaseTunerLayer._move_adapter_to_device_of_base_layer

    def keep(layer: Any, *args: Any, **options: Any) -> None:
        before = dict(layer.named_parameters())
        move(layer, *args, **options)
        for name, parameter in layer.named_parameters():
            if parameter.is_meta and not before[name].is_meta:
                set_initial_rows(parameter, partial(_rows_of, before[name].detach()))

    BaseTunerLayer._move_adapter_to_device_of_base_layer = keep  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        BaseTunerLayer._move_adapter_to_device_of_base_layer = move  # type: ignore[method-assign]


def set_copied_values(model: nn.Module) -> None:
    """Set the initial values of adapters that follow from those of the model's own weights."""
    from peft.tuners.lora.dora import DoraLinearLayer
    from peft.tuners.lora.layer import LoraLayer
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
    from peft.utils.other import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, LoraLayer):
            matrix: Any = module.get_base_layer().weight
            for magnitude in module.lora_magnitude_vector.values():
                if isinstance(magnitude, DoraLinearLayer) and magnitude.weight.is_meta:
                    of_columns = magnitude.fan_in_fan_out
                    rows = partial(_column_norms if of_columns else _row_norms, _known(matrix), len(matrix))
                    set_initial_rows(magnitude.weight, rows)
        elif isinstance(module, TrainableTokensLayer) and module.tied_adapter is None:
            _set_token_rows(module)
        elif isinstance(module, ModulesToSaveWrapper):
            for copied in module.modules_to_save.values():
                for name, parameter in copied.named_parameters():
                    set_initial_rows(parameter, _known(module.original_module.get_parameter(name)))


def _set_token_rows(layer: Any) -> None:
    matrix = layer.get_base_layer().weight
    for adapter, delta in layer.trainable_tokens_delta.items():
        if delta.is_meta:
            rows = partial(_rows_at, _known(matrix), layer.token_indices[adapter])
            set_initial_rows(delta, rows)
            layer.trainable_tokens_original[adapter] = rows(0, len(delta)).to(delta.dtype)


def _known(weight: torch.Tensor) -> Rows:
    rows = initial_rows(weight)
    if rows is None:
        raise StageFailed(
            "the initial values of an adapter's matrix are not known", hint="Please report this."
        )
    return rows


def _rows_of(values: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    return values[start:stop]


def _rows_at(rows: Rows, places: list[int], start: int, stop: int) -> torch.Tensor:
    return torch.cat([rows(place, place + 1) for place in places[start:stop]] or [rows(0, 0)])


def _row_norms(rows: Rows, _: int, start: int, stop: int) -> torch.Tensor:
    """Return the lengths of rows [start, stop) of a matrix [output, input]."""
    return torch.linalg.norm(rows(start, stop).float(), dim=1)


def _column_norms(rows: Rows, count: int, start: int, stop: int) -> torch.Tensor:
    """Return the lengths of columns [start, stop) of a matrix [input, output] of `count` rows."""
    return torch.linalg.norm(rows(0, count)[:, start:stop].float(), dim=0)
