"""The state of every part of a run at one moment."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cpt.training.checkpoint.parts import Part


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

    def copied(self, buffers: Snapshot | None = None) -> Snapshot:
        """A copy in host memory, in the memory of `buffers` (a copy that is no longer needed) where it fits.

        Memory that is used again is not touched for the first time again, and on a GPU it stays pinned.
        """
        old = buffers.tensors if buffers else {}
        tensors = {
            name: {key: _copy(tensor, old.get(name, {}).get(key)) for key, tensor in part.items()}
            for name, part in self.tensors.items()
        }
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return Snapshot(self.step, tensors, copy.deepcopy(self.data))

    def restore(self, parts: Mapping[str, Part], spare: Collection[str] = ()) -> None:
        """Put the state back, in the order of the parts.

        Args:
            spare: names of parts that stay as they are.
        """
        for name, part in parts.items():
            if name not in spare:
                part.restore({**self.data.get(name, {}), **self.tensors.get(name, {})})


def _copy(tensor: torch.Tensor, buffer: torch.Tensor | None) -> torch.Tensor:
    if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
        buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return buffer.copy_(tensor, non_blocking=True)
