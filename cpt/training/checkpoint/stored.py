"""Read tensors of a checkpoint from the disk: each as a whole, or only the rows that a process holds.

A tensor is read when it is asked for, so that a process that holds a shard of it never has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from cpt.training.distributed.tensors import Layout, own_rows

TENSORS = ".safetensors"

FilesOpen = Any
"""Function that opens a safetensors file once; it stays open as long as a tensor refers to it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on the disk. Equal numbers of its rows may be in several files, and fewer in the last ones.

    Attributes:
        shape: Shape of the whole tensor.
        folder: Folder of its files.
        key: Name of the tensor in each of them.
        rows_per_file: Number of rows in each file; None: the whole tensor is in `file`.
        file: Name of the file; with a number of rows per file, a format for the file's number.
    """

    shape: torch.Size
    folder: Path
    key: str
    rows_per_file: int | None
    file: str
    opened: FilesOpen

    @property
    def ndim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def clone(self) -> torch.Tensor:
        """Return the whole tensor, in main memory."""
        if self.rows_per_file is None:
            return self._slice(self.file)[...].clone()
        return self.rows(0, self.shape[0])

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Return rows `first` to `last` (exclusive), in main memory."""
        size = self.rows_per_file
        if size is None:
            return self._slice(self.file)[first:last].clone()
        files = range(first // size, -(-last // size)) if first < last else range(1)
        parts = []
        for number in files:
            rows = self._slice(self.file.format(number))
            parts.append(rows[max(first - number * size, 0) : max(last - number * size, 0)])
        return torch.cat(parts)

    def _slice(self, file: str) -> Any:
        return self.opened(self.folder / file).get_slice(self.key)


def file_opener() -> FilesOpen:
    """Return a function that opens each safetensors file once."""
    return cache(lambda path: safe_open(path, framework="pt"))


def whole_tensors(path: Path, opened: FilesOpen) -> dict[str, StoredTensor]:
    """Return the tensors of a file, by name, none of which is in another file, too."""
    file = opened(path)
    shapes = {key: torch.Size(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return {
        key: StoredTensor(shape, path.parent, key, None, path.name, opened) for key, shape in shapes.items()
    }


@dataclass(frozen=True)
class HostShard:
    """This process's shard of a tensor, copied to main memory; it goes to the device when it is restored."""

    tensor: torch.Tensor
    layout: Layout

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the whole tensor."""
        return self.layout.shape


def load_like(saved: torch.Tensor | HostShard | StoredTensor, like: torch.Tensor) -> torch.Tensor:
    """Return a saved tensor as a new one, on the device of another and sharded as that is.

    State of another shape than its weight's is sharded by its rows, too; a single number (a step count) is
    not.

    Args:
        saved: Whole tensor, this process's shard of one, or one on the disk, of which only the shard is read.
        like: Tensor that may be sharded.
    """
    if isinstance(saved, HostShard):
        return saved.layout.join(saved.tensor.to(like.device, copy=True))
    if isinstance(saved, DTensor):
        return saved.clone()
    if not (isinstance(like, DTensor) and saved.ndim):
        return saved.clone().to(like.device)
    first, last = own_rows(like, saved.shape[0])
    shard = saved.rows(first, last) if isinstance(saved, StoredTensor) else saved[first:last]
    stride = torch.empty(saved.shape, device="meta").stride()
    layout = Layout(like.device_mesh, like.placements, saved.shape, stride)
    return layout.join(shard.to(like.device, copy=isinstance(saved, torch.Tensor)))
