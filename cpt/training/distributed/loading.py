"""Load a model by shard: each process takes memory for its own shards, and reads only these from the files.

The model is built on the meta device, changed there (adapters, added layers), and sharded there
(`fully_shard`). What its parameters hold at first is known by row (`cpt.models.unloaded_model`), and FSDP2
shards by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from cpt.errors import StageFailed
from cpt.models.packed_model import (
    PackedLanguageModel,
    are_finite,
    not_finite,
    packed_and_alone,
    require_faithful,
)
from cpt.models.unloaded_model import Rows, initial_rows
from cpt.training.distributed.tensors import first_row
from cpt.training.float8 import plain_products

if TYPE_CHECKING:
    from cpt.training.distributed.collectives import ProcessGroup


def known_rows(module: nn.Module) -> dict[str, Rows]:
    """Return the initial values of the parameters on the meta device, by name, before they are sharded.

    Raises:
        StageFailed: a parameter has none.
    """
    found: dict[str, Rows] = {}
    for name, parameter in module.named_parameters():
        if not parameter.is_meta:
            continue
        rows = initial_rows(parameter)
        if rows is None:
            raise StageFailed(f"the initial values of {name} are not known", hint="Please report this.")
        found[name] = rows
    return found


@torch.no_grad()
def load_shards(module: nn.Module, rows: Mapping[str, Rows], device: torch.device) -> None:
    """Give a sharded module on the meta device memory, and its shards their initial values.

    Args:
        module: Module that `fully_shard` wraps; what is on another device keeps its values.
        rows: Initial values by name of the parameter.
        device: Device of this process.
    """
    module._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
    parameters: dict[str, Any] = dict(module.named_parameters())
    for name, get in rows.items():
        shard, first = parameters[name].to_local(), first_row(parameters[name])
        shard.copy_(get(first, first + len(shard)))


def check_shards(
    module: PackedLanguageModel,
    dtype: torch.dtype,
    processes: ProcessGroup,
    added_layers: Collection[str] = (),
) -> None:
    """Check a sharded model as `load_model` checks a whole one; all processes come to the same verdict.

    Args:
        module: Sharded model, before training.
        dtype: Data type in which it computes.
        processes: Process group of the run.
        added_layers: Names of layers, in the module's model, that must add nothing yet.

    Raises:
        ModelError: Its answers are not finite numbers.
        StageFailed: It cannot read packed documents, or an added layer changes what it computes.
    """
    changed: list[str] = []
    hooks = [
        module.model.get_submodule(name).register_forward_hook(_comparison(name, changed))
        for name in added_layers
    ]
    with plain_products(module.model):  # as a model is checked before its layers are converted to float8
        packed, alone = packed_and_alone(module)
    reshard(module)
    for hook in hooks:
        hook.remove()
    if processes.any(not are_finite(alone)):
        wrong = _not_finite_weights(module.model, processes)
        raise not_finite(wrong, Path(module.model.name_or_path))
    if processes.any(bool(changed)):
        raise StageFailed(
            f"{type(module.model).__name__} cannot be expanded: layers that add nothing change what it "
            "computes",
            hint="Train chosen layers (kind: layers).",
        )
    try:
        require_faithful(packed, alone, module.model, dtype)
    except StageFailed:
        processes.any(True)
        raise
    if processes.any(False):
        raise StageFailed("another process found that this model cannot read packed documents")


def reshard(module: nn.Module) -> None:
    """Reshard all that is gathered. A module's own `reshard` leaves the layers below it as they are."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _comparison(name: str, changed: list[str]) -> Callable[..., None]:
    """Return a hook that notes a layer whose output is not its input."""

    def compare(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        after = output[0] if isinstance(output, tuple) else output
        if not torch.allclose(inputs[0], after, rtol=0, atol=1e-5):
            changed.append(name)

    return compare


def _not_finite_weights(model: nn.Module, processes: ProcessGroup) -> list[str]:
    """Return the names of the weights that are not finite in the shard of any process."""
    weights: dict[str, Any] = dict(model.named_parameters())
    wrong = torch.tensor(
        [not bool(w.to_local().isfinite().all()) for w in weights.values()],
        dtype=torch.float32,
        device=processes.device,
    )
    return [name for name, count in zip(weights, processes.sum(wrong).tolist(), strict=True) if count]
