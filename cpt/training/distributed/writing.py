"""Write a sharded model as a model folder: each tensor is gathered alone, and the main process writes it.

An adapter is written first, then merged into its matrices one by one as they are written. Main memory of the
main process holds the adapter, or a matrix with its own adapter, and never the whole model.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.models.streamed_weights import LARGEST_FILE, write_weights
from cpt.training.distributed.tensors import whole

if TYPE_CHECKING:
    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.trainable.adalora import RankAllocation
    from cpt.training.trainable.spec import Adapter

MODEL = "model"
"""Name of the written model in a run's work folder."""


@dataclass(frozen=True)
class _Source:
    """The origin of a written tensor: a tensor of a module, which an adapter may wrap."""

    holder: nn.Module
    name: str


@torch.no_grad()
def write_adapter(
    model: Any, adapter: Adapter, ranks: RankAllocation | None, folder: Path, processes: ProcessGroup
) -> None:
    """Write the adapter of a sharded model; all processes must call this together."""
    wrappers = [module for module in model.modules() if adapter.wraps(module)]
    inside = {id(p) for wrapper in wrappers for p in adapter.around(wrapper).parameters()}
    with _whole(wrappers, processes, without=inside):
        if processes.is_main:
            adapter.save(folder, ranks)


@torch.no_grad()
def write_model(
    model: Any, adapter: Adapter | None, folder: Path, processes: ProcessGroup, largest: str = LARGEST_FILE
) -> None:
    """Write a sharded model in float32 into an empty folder; all processes must call this together.

    Args:
        model: Causal language model whose parameters are its stored tensors (`unloaded_model`); it is of no
            use any more afterwards.
        adapter: Adapter to merge into the written weights.
        folder: Folder to write; what it holds is removed.
        processes: Process group of the run.
        largest: Size from which another file of weights begins.
    """
    if processes.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_settings(model, folder)
    sources = _sources(model, "", adapter)
    shapes = {name: _written(source, adapter) for name, source in _untied(model, sources, adapter).items()}
    merged: list[tuple[nn.Module, dict[str, torch.Tensor]]] = []

    def tensor(name: str) -> torch.Tensor:
        source = sources[name]
        if not (merged and merged[-1][0] is source.holder):
            merged[:] = [(source.holder, _values(source.holder, adapter, processes))]
        return merged[-1][1].get(source.name, shapes[name])

    write_weights(folder, shapes, tensor, writes=processes.is_main, largest=largest)


def _write_settings(model: Any, folder: Path) -> None:
    """Write the JSON files that `save_pretrained` writes."""
    model.config.dtype = "float32"
    model.config.architectures = [type(model).__name__.removeprefix("FSDP")]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def _sources(module: nn.Module, prefix: str, adapter: Adapter | None) -> dict[str, _Source]:
    """Return the stored tensors of a module by name, in the order of its state without an adapter."""
    if adapter is not None and adapter.wraps(module):
        plain = adapter.plain(module)
        return {f"{prefix}{name}": _Source(module, name) for name, _ in plain.named_parameters()}
    found = {
        f"{prefix}{name}": _Source(module, name)
        for names in (module._parameters, module._buffers)
        for name, value in names.items()
        if value is not None and name not in module._non_persistent_buffers_set
    }
    for name, child in module.named_children():
        found |= _sources(child, f"{prefix}{name}.", adapter)
    return found


def _tensor_of(source: _Source, adapter: Adapter | None) -> torch.Tensor:
    """Return the tensor, which may be sharded, without what an adapter adds to it."""
    holder = source.holder
    if adapter is not None and adapter.wraps(holder):
        return adapter.plain(holder).get_parameter(source.name)
    found: torch.Tensor = getattr(holder, source.name)
    return found


def _written(source: _Source, adapter: Adapter | None) -> torch.Tensor:
    """Return a tensor without memory, of the shape and data type that are written."""
    tensor = _tensor_of(source, adapter)
    dtype = torch.float32 if isinstance(tensor, nn.Parameter) else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


def _untied(model: Any, sources: dict[str, _Source], adapter: Adapter | None) -> dict[str, _Source]:
    """Leave out what transformers leaves out: the names of tied tensors that it ties to another one."""
    tied = getattr(model, "all_tied_weights_keys", {})
    names: dict[int, list[str]] = {}
    for name, source in sources.items():
        names.setdefault(id(_tensor_of(source, adapter)), []).append(name)
    kept = {
        next((name for name in alike if name not in tied), alike[0]) if len(alike) > 1 else alike[0]
        for alike in names.values()
    }
    return {name: source for name, source in sources.items() if name in kept}


def _values(holder: nn.Module, adapter: Adapter | None, processes: ProcessGroup) -> dict[str, torch.Tensor]:
    """Return the tensors of one module, whole, with its adapter merged, in the main process."""
    if adapter is None or not adapter.wraps(holder):
        own = {**holder._parameters, **holder._buffers}
        found = {name: whole(value) for name, value in own.items() if value is not None}
        return found if processes.is_main else {}
    with _whole([holder], processes):
        if not processes.is_main:
            return {}
        return {name: value.detach() for name, value in adapter.merged(holder).named_parameters()}


@contextmanager
def _whole(
    modules: Collection[nn.Module], processes: ProcessGroup, without: Collection[int] = ()
) -> Iterator[None]:
    """Give the main process whole float32 parameters of some modules in the block.

    Args:
        modules: Modules with all that is in them.
        processes: Process group of the run.
        without: Identities of parameters that stay sharded.
    """
    before: list[tuple[nn.Module, str, nn.Parameter]] = []
    made: dict[int, nn.Parameter] = {}
    parts = {id(part): part for module in modules for part in module.modules()}  # wrappers may be nested
    for part in parts.values():
        for name, parameter in part._parameters.items():
            if parameter is None or id(parameter) in without:
                continue
            if id(parameter) not in made:
                gathered = whole(parameter)
                made[id(parameter)] = (
                    nn.Parameter(gathered.cpu().float(), requires_grad=False)
                    if processes.is_main
                    else parameter
                )
            before.append((part, name, parameter))
            part._parameters[name] = made[id(parameter)]
    try:
        yield
    finally:
        for part, name, parameter in before:
            part._parameters[name] = parameter
