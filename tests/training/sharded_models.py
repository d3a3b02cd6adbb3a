"""Run the work of each of several processes on a sharded model, for `test_sharded_loading.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from several import FSDP2
from torch.distributed.fsdp import MixedPrecisionPolicy

from cpt.errors import CptError
from cpt.models import unloaded_model as unloaded
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.sampling import sample
from cpt.models.unloaded_model import set_initial_rows, unloaded_model
from cpt.training.distributed import loading, writing
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.loading import check_shards
from cpt.training.distributed.reading import read_sharded
from cpt.training.distributed.sharding import shard
from cpt.training.distributed.writing import write_model
from cpt.training.trainable import Expansion, Setup

PROMPT, LENGTH = 5, 6


@contextmanager
def connected() -> Iterator[ProcessGroup]:
    """Processes that shard weights."""
    import os

    os.environ |= FSDP2
    processes = ProcessGroup(distributed_context())
    try:
        yield processes
    finally:
        processes.close()
        for name in FSDP2:
            del os.environ[name]


def sharded(model: Any, processes: ProcessGroup) -> PackedLanguageModel:
    """The model by shard, with its values."""
    module = PackedLanguageModel(model)
    shard(module, MixedPrecisionPolicy(cast_forward_inputs=False), processes)
    return module


def load_and_write(job: dict[str, Any]) -> None:
    """Load and write the model; tell what was read, held and gathered, by name."""
    read: dict[str, int] = {}
    gathered: list[int] = []
    load_rows, whole = unloaded.load_rows, writing.whole

    def counted(tensor: Any, name: str, start: int, stop: int) -> torch.Tensor:
        rows = load_rows(tensor, name, start, stop)
        read[name] = read.get(name, 0) + rows.numel()
        return rows

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        gathered.append(tensor.numel())
        return whole(tensor)

    unloaded.load_rows, writing.whole = counted, noted
    with connected() as processes:
        module = sharded(unloaded_model(Path(job["model"])), processes)
        held = {name: int(p.to_local().numel()) for name, p in module.model.named_parameters()}  # type: ignore[operator]
        for name, largest in {"one": "50GB", "several": "40KB"}.items():
            write_model(module.model, None, Path(job["out"]) / name, processes, largest)
    unloaded.load_rows, writing.whole = load_rows, whole
    tell(job, {"read": read, "held": held, "gathered": gathered})


def read_together(job: dict[str, Any]) -> None:
    """Sample from the model; tell the samples."""
    import os

    calls = []

    def use(model: Any) -> list[list[int]]:
        calls.append(type(model).__name__)
        return sample(model, 0, {1}, PROMPT, LENGTH, 17)

    os.environ |= FSDP2
    folder = Path(job["model"])
    told = {
        "none": read_sharded(folder, False, use),
        "calls": len(calls),
        "samples": read_sharded(folder, distributed_context().is_main, use),
    }
    for name in FSDP2:
        del os.environ[name]
    tell(job, told)


def refuse(job: dict[str, Any]) -> None:
    """Check models of which something is wrong in one process; tell the errors of this one."""
    rank, folder = distributed_context().rank, Path(job["model"])

    def broken(model: Any) -> None:
        weight = model.model.layers[1].mlp.up_proj.weight
        rows = unloaded.initial_rows(weight)
        assert rows is not None

        def last_row_broken(start: int, stop: int) -> torch.Tensor:
            values = rows(start, stop).clone()
            values[values.shape[0] - 1 :] = torch.nan if stop == len(weight) else values[-1:]
            return values

        set_initial_rows(weight, last_row_broken)

    def unfaithful(*_: Any) -> None:
        if rank == 1:
            raise loading.StageFailed("its loss is off")

    told = {"sound": error_of(folder), "not finite": error_of(folder, broken)}
    told["changed"] = error_of(folder, added=["model.layers.0"])
    told["expanded"] = error_of(
        folder, lambda model: Expansion(kind="expansion", every=1).apply(model, Setup(9))
    )
    require_faithful, loading.require_faithful = loading.require_faithful, unfaithful
    told["unfaithful"] = error_of(folder)
    loading.require_faithful = require_faithful
    tell(job, told)


def error_of(
    folder: Path, change: Callable[[Any], Any] = lambda _: None, added: list[str] | None = None
) -> str:
    """The error of a model's check, or nothing."""
    with connected() as processes:
        model = unloaded_model(folder)
        spec = change(model)
        module = sharded(model, processes)
        try:
            check_shards(module, torch.float32, processes, added or getattr(spec, "added_layers", ()))
        except CptError as error:
            return error.message
    return ""


def tell(job: dict[str, Any], told: dict[str, Any]) -> None:
    """Write JSON data of this process."""
    Path(f"{job['out']}-{distributed_context().rank}.json").write_text(json.dumps(told))
