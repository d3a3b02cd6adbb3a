"""Compare what processes begin with: each reads its own files, and resolves some settings by its own machine.

No weights and no batches are sent, so processes that began with others would train a model that is none of
theirs, without a word. Replicas then compute each step alike; at checkpoints they compare their weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from cpt.errors import StageFailed

if TYPE_CHECKING:
    from cpt.training.data import PackedSequence
    from cpt.training.distributed.collectives import ProcessGroup

_PIECE = 1 << 24
"""Number of elements summed at once: a CPU first copies them to 64 bits, 128 MiB."""

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32}
"""Integers by bytes of a number."""

_SHARE = "All processes must see the same files: use a folder that every machine shares."


def require_same_settings(processes: ProcessGroup, settings: Mapping[str, Any]) -> None:
    """Raise in all processes if one of them has other settings; they call this together.

    Args:
        settings: JSON values by name.

    Raises:
        StageFailed: Settings differ.
    """
    if other := _other(processes, settings):
        number, name, found, wanted = other
        raise StageFailed(
            f"process {number} would train with {name} {found}, and the main process with {wanted}",
            hint="Give all processes the same hardware and files. Where only some machines have fast bf16, "
            "set `precision`.",
        )


def require_same_weights(processes: ProcessGroup, model: nn.Module) -> None:
    """Raise in all processes if one of them has read other weights; they call this together.

    Args:
        model: Model in main memory; parameters without values are left out.

    Raises:
        StageFailed: Weights differ.
    """
    if processes.count == 1:
        return
    values = {name: p.detach() for name, p in model.named_parameters() if not p.is_meta}
    if other := _other(processes, {name: _checksum(tensor) for name, tensor in values.items()}):
        raise StageFailed(
            f"process {other[0]} begins with other weights than the main process: {other[1]}", hint=_SHARE
        )


def require_same_rows(processes: ProcessGroup, batch: Sequence[PackedSequence]) -> None:
    """Raise in all processes if one of them reads other tokens; they call this together.

    Args:
        batch: Global batch that is trained on next.

    Raises:
        StageFailed: Rows differ.
    """
    sums = {str(number): zlib.crc32(_bytes(row.tokens)) for number, row in enumerate(batch)}
    if other := _other(processes, sums):
        raise StageFailed(f"process {other[0]} reads other text than the main process", hint=_SHARE)


def require_equal_replicas(processes: ProcessGroup, weights: Mapping[str, torch.Tensor], step: int) -> None:
    """Raise in all processes if replicas have different checksums of weights; they call this together.

    Args:
        weights: Trained weights or this process's shards of them, by name.
        step: Number of steps taken.

    Raises:
        StageFailed: Weights differ.
    """
    shards = processes.count // processes.replicas if processes.sharding else 1
    if processes.count == shards:
        return
    sums = [_sum_of_bits(weight) for weight in weights.values()]
    told = processes.gather(torch.stack(sums).tolist())
    for number, name in enumerate(weights):
        for rank, found in enumerate(told):
            if found[number] != told[rank % shards][number]:
                raise StageFailed(
                    f"after step {step} process {rank} has other weights than process {rank % shards}, "
                    f"of which it is a replica: {name} is the first that differs",
                    hint="Use machines with hardware and libraries of one kind, and `deterministic: true` on "
                    "GPUs; then the same command continues from the checkpoint before.",
                )


def _sum_of_bits(weight: torch.Tensor) -> torch.Tensor:
    """Return the sum of the numbers of a tensor, or of this process's shard, their bits read as integers."""
    local = weight.detach()
    local = local.to_local() if isinstance(local, DTensor) else local
    bits = local.contiguous().flatten().view(_INTEGERS[local.element_size()])
    return torch.stack([piece.sum(dtype=torch.int64) for piece in bits.split(_PIECE)]).sum()


def _other(processes: ProcessGroup, facts: Mapping[str, Any]) -> tuple[int, str, Any, Any] | None:
    """Return the first process with another fact, the fact's name, and its value there and here."""
    main, *others = processes.gather(dict(facts))
    for number, told in enumerate(others, start=1):
        for name in {**main, **told}:
            if told.get(name) != main.get(name):
                return number, name, told.get(name), main.get(name)
    return None


def _checksum(tensor: torch.Tensor) -> int:
    return zlib.crc32(_bytes(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()))


def _bytes(values: Any) -> memoryview:
    return np.ascontiguousarray(values).data
