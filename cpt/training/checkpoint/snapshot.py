"""The state of every part of a run at one moment."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from cpt.training.checkpoint.parts import Part
from cpt.training.clock import wait_for_gpu
from cpt.training.distributed.tensors import whole

_BLOCK = 1 << 30
"""Bytes of a block of memory that holds many tensors, if none of them needs a larger one."""

_ALIGNED = 64
"""Bytes of which the beginning of every tensor is a multiple."""


@dataclass(frozen=True)
class Snapshot:
    """State by part and key.

    Attributes:
        step: global batches gone through when it was taken.
        tensors: those of each part; a part without any is left out.
        data: each part's JSON data.
    """

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    data: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, parts: Mapping[str, Part], step: int) -> Snapshot:
        """The state now, without a copy: good until training goes on."""
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        data: dict[str, dict[str, Any]] = {}
        for name, part in parts.items():
            state = part.state()
            data[name] = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
            found = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
            if found:
                tensors[name] = found
        return cls(step, tensors, data)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for part in self.tensors.values() for tensor in part.values())

    @property
    def is_divided(self) -> bool:
        """Whether several processes have parts of its tensors."""
        return any(isinstance(tensor, DTensor) for part in self.tensors.values() for tensor in part.values())

    def hand_over(self) -> None:
        """Give another process, which copies the state, this one's parts of divided tensors."""
        for part in self.tensors.values():
            for tensor in part.values():
                whole(tensor)

    def copied(self, buffers: Snapshot | None = None) -> Snapshot:
        """A copy in host memory, in the memory of `buffers` (a copy that is no longer needed) where it fits.

        Divided tensors are made whole, one by one: all other processes must hand theirs over.
        Memory that is used again is not touched for the first time again, and on a GPU it stays pinned.
        """
        if buffers is not None and _shapes(buffers.tensors) == _shapes(self.tensors):
            copies = buffers.tensors
        else:
            memory = iter(_host_memory([t for part in self.tensors.values() for t in part.values()]))
            copies = {name: {key: next(memory) for key in part} for name, part in self.tensors.items()}
        for name, part in self.tensors.items():
            for key, tensor in part.items():
                copies[name][key].copy_(whole(tensor), non_blocking=True)
        wait_for_gpu()
        return Snapshot(self.step, copies, copy.deepcopy(self.data))

    def restore(self, parts: Mapping[str, Part], spare: Collection[str] = ()) -> None:
        """Put the state back, in the order of the parts.

        Args:
            spare: names of parts that stay as they are.
        """
        for name, part in parts.items():
            if name not in spare:
                part.restore({**self.data.get(name, {}), **self.tensors.get(name, {})})


def _shapes(tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {name: {key: (t.shape, t.dtype) for key, t in part.items()} for name, part in tensors.items()}


def _host_memory(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors of the same shapes and data types in host memory: pinned, where some are on a GPU."""
    blocks, places = pack_blocks([tensor.nbytes for tensor in tensors])
    pinned = any(tensor.is_cuda for tensor in tensors)
    memory = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for size in blocks]
    return [
        memory[block][start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for tensor, (block, start) in zip(tensors, places, strict=True)
    ]


def pack_blocks(sizes: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Lay tensors of some bytes into few large blocks of memory.

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
