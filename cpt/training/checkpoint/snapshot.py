"""Take a snapshot: the state of a whole run after one step."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from cpt.errors import DiskFull
from cpt.training.checkpoint.stateful import Stateful
from cpt.training.checkpoint.stored import HostShard
from cpt.training.clock import wait_for_gpu
from cpt.training.distributed.tensors import Layout

_BLOCK = 1 << 30
"""Size in bytes of a block of memory for many tensors, if none of them needs a larger one."""

STATE = "state.json"
"""Name of the file with step and JSON data of a snapshot on the disk."""

_SLACK = 1 << 20
"""Space in bytes for JSON and headers."""

_ALIGNED = 64
"""Alignment of every tensor, in bytes."""


@dataclass(frozen=True)
class Snapshot:
    """State by name of the object and key.

    Attributes:
        step: number of global batches that were consumed when it was taken.
        tensors: tensors of each object that has any; those of a checkpoint on the disk are `StoredTensor`s.
        data: JSON data of each object.
        layouts: layouts of those tensors that are only this process's shard of a sharded one.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Any]]
    data: dict[str, dict[str, Any]]
    layouts: dict[str, dict[str, Layout]] = field(default_factory=dict)

    @classmethod
    def of(cls, stateful: Mapping[str, Stateful], step: int) -> Snapshot:
        """Return the present state, without a copy: it is valid until training continues."""
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        data: dict[str, dict[str, Any]] = {}
        for name, each in stateful.items():
            state = each.state_dict()
            data[name] = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
            found = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
            if found:
                tensors[name] = found
        return cls(step, tensors, data)

    @property
    def bytes(self) -> int:
        """Size of all tensors in bytes, if they are whole."""
        return sum(
            (tensor.shape if layout is None else layout.shape).numel() * tensor.dtype.itemsize
            for name, found in self.tensors.items()
            for key, tensor in found.items()
            for layout in [self.layout(name, key)]
        )

    def layout(self, name: str, key: str) -> Layout | None:
        """Return the layout of a tensor of which this process has a shard; None if it is whole."""
        tensor = self.tensors[name][key]
        return Layout.of(tensor) if isinstance(tensor, DTensor) else self.layouts.get(name, {}).get(key)

    def copied(self, buffers: Snapshot | None = None) -> Snapshot:
        """Return a copy in main memory, in that of `buffers` (a copy that is no longer needed) where it fits.

        Of sharded tensors it has this process's shards. Memory that is used again is mapped already, and with
        a GPU it stays pinned.
        """
        local = {
            name: {key: t.to_local() if isinstance(t, DTensor) else t for key, t in found.items()}
            for name, found in self.tensors.items()
        }
        layouts = {
            name: {key: layout for key in found if (layout := self.layout(name, key))}
            for name, found in self.tensors.items()
        }
        copies = _memory(local, buffers)
        for name, found in local.items():
            for key, tensor in found.items():
                copies[name][key].copy_(tensor, non_blocking=True)
        wait_for_gpu()
        some = {name: found for name, found in layouts.items() if found}
        return Snapshot(self.step, copies, copy.deepcopy(self.data), some)

    def write_data(self, folder: Path) -> Path:
        """Write step and JSON data to a folder, and return the file's path."""
        path = folder / STATE
        path.write_text(json.dumps({"step": self.step, "parts": self.data}))
        return path

    def restore(self, stateful: Mapping[str, Stateful], spare: Collection[str] = ()) -> None:
        """Restore the state of objects, in their order.

        Args:
            spare: names of objects that stay as they are.
        """
        for name, each in stateful.items():
            if name not in spare:
                tensors = {key: self._tensor(name, key) for key in self.tensors.get(name, {})}
                each.load_state_dict({**self.data.get(name, {}), **tensors})

    def _tensor(self, name: str, key: str) -> torch.Tensor | HostShard:
        """Return a tensor as it was saved."""
        tensor, layout = self.tensors[name][key], self.layouts.get(name, {}).get(key)
        return tensor if layout is None else HostShard(tensor, layout)


_Tensors = Mapping[str, Mapping[str, torch.Tensor]]


def _memory(tensors: _Tensors, buffers: Snapshot | None) -> _Tensors:
    """Return tensors of the same shapes in main memory: those of a copy, or new ones."""
    if buffers is not None and _shapes(buffers.tensors) == _shapes(tensors):
        return buffers.tensors
    shapes = [(tensor.shape, tensor.dtype) for found in tensors.values() for tensor in found.values()]
    pinned = any(tensor.is_cuda for found in tensors.values() for tensor in found.values())
    memory = iter(_host_memory(shapes, pinned))
    return {name: {key: next(memory) for key in found} for name, found in tensors.items()}


def _shapes(tensors: _Tensors) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    return {name: {key: (t.shape, t.dtype) for key, t in found.items()} for name, found in tensors.items()}


def _host_memory(shapes: Sequence[tuple[torch.Size, torch.dtype]], pinned: bool) -> list[torch.Tensor]:
    """Return tensors of some shapes and data types in main memory."""
    sizes = [shape.numel() * dtype.itemsize for shape, dtype in shapes]
    blocks, places = pack_blocks(sizes)
    memory = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for size in blocks]
    return [
        memory[block][start : start + size].view(dtype).view(shape)
        for (shape, dtype), size, (block, start) in zip(shapes, sizes, places, strict=True)
    ]


def require_space(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Raise if a checkpoint does not fit on the folder's disk, beside all that is there.

    Args:
        snapshots: snapshots of the checkpoint; of sharded tensors all shards are counted.

    Raises:
        DiskFull: there is less space than it needs.
    """
    needed = sum(snapshot.bytes + len(json.dumps(snapshot.data)) for snapshot in snapshots.values()) + _SLACK
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(folder, needed, free)


def pack_blocks(sizes: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Place tensors in few large blocks of memory.

    PyTorch rounds a pinned block up to a power of two: tensor by tensor, the state of a model of 7B
    parameters takes 174 GB instead of 91. Full blocks lose nothing, and only the last may be half empty.

    Returns:
        Bytes of every block; the block and the first byte of every tensor.
    """
    capacity = max(_BLOCK, 1 << (max(sizes, default=1) + _ALIGNED).bit_length())
    blocks: list[int] = []
    places = [(0, 0)] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        size = -(-sizes[index] // _ALIGNED) * _ALIGNED
        block = next((number for number, used in enumerate(blocks) if used + size <= capacity), len(blocks))
        if block == len(blocks):
            blocks.append(0)
        places[index] = (block, blocks[block])
        blocks[block] += size
    return blocks, places
