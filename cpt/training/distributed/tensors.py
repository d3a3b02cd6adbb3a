"""Tensors that may be sharded over processes, as whole ones and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

SHARD = "shard"
"""Name of the dimension of a mesh over which tensors are sharded, where there is another one (HSDP)."""


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be sharded as a whole one; all processes must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the device of a weight, sharded as the weight is: the inverse of `whole`.

    State of another shape than its weight's is sharded by its rows, too; a single number (a step count) is
    not. A tensor that is sharded already stays as it is.
    """
    if isinstance(tensor, DTensor):
        return tensor
    tensor = tensor.to(weight.device)
    if isinstance(weight, DTensor) and tensor.ndim:
        return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)
    return tensor


@dataclass(frozen=True)
class Layout:
    """The layout of a tensor that is sharded over processes.

    Attributes:
        mesh, placements: Processes, and what each of them holds.
        shape: Shape of the whole tensor.
        stride: Stride of the whole tensor.
    """

    mesh: Any
    placements: Sequence[Any]
    shape: torch.Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: DTensor) -> Layout:
        """Return the layout of a sharded tensor."""
        return cls(tensor.device_mesh, tensor.placements, tensor.shape, tensor.stride())

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        dimension = next(number for number, each in enumerate(self.placements) if each.is_shard())
        size: int = self.mesh.size(dimension)
        return size

    def join(self, shard: torch.Tensor) -> DTensor:
        """Return the tensor of which this process has a shard, on any device."""
        return DTensor.from_local(
            shard, self.mesh, self.placements, run_check=False, shape=self.shape, stride=self.stride
        )


def own_rows(tensor: DTensor, rows: int) -> tuple[int, int]:
    """Return the first row of this process's shard and the one after its last.

    Args:
        tensor: Sharded tensor.
        rows: Number of rows of a tensor that is sharded as it is; see `rows_per_shard`.
    """
    dimension = next(number for number, each in enumerate(tensor.placements) if each.is_shard())
    size = rows_per_shard(rows, tensor.device_mesh.size(dimension))
    first = min(size * tensor.device_mesh.get_local_rank(dimension), rows)
    return first, min(first + size, rows)


def rows_per_shard(rows: int, shards: int) -> int:
    """Return the number of rows of every shard but the last ones, which may have fewer or none."""
    return -(-rows // shards)


def first_row(tensor: DTensor) -> int:
    """Return the number of the first row of this process's shard."""
    return own_rows(tensor, tensor.shape[0])[0]


def take_rows(matrix: torch.Tensor, rows_N: torch.Tensor) -> torch.Tensor:
    """Return rows [N, ...] of a tensor, sharded as it is; all processes must call this together."""
    if not isinstance(matrix, DTensor):
        return matrix[rows_N]
    found = matrix.to_local().new_zeros(len(rows_N), *matrix.shape[1:])
    own_N, local_K = _own(matrix, rows_N)
    found[own_N] = matrix.to_local()[local_K]
    # every row is in one process, so that the sum over processes is the rows
    summed = [Partial() if each.is_shard() else Replicate() for each in matrix.placements]
    partial = DTensor.from_local(found, matrix.device_mesh, summed, run_check=False)
    return partial.redistribute(placements=matrix.placements)


def put_rows(matrix: torch.Tensor, rows_N: torch.Tensor, values: torch.Tensor | float) -> None:
    """Overwrite rows of a tensor; all processes must call this together.

    Args:
        matrix: Tensor, which may be sharded.
        rows_N: Numbers of the rows.
        values: New rows [N, ...], sharded if `matrix` is, or one number for all of them.
    """
    values = whole(values) if isinstance(values, torch.Tensor) else values
    if not isinstance(matrix, DTensor):
        matrix[rows_N] = values
        return
    own_N, local_K = _own(matrix, rows_N)
    matrix.to_local()[local_K] = (
        values[own_N].to(matrix.dtype) if isinstance(values, torch.Tensor) else values
    )


def _own(matrix: DTensor, rows_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which of some rows are in this process's shard [N], and their numbers there [K]."""
    local_N = rows_N - first_row(matrix)
    own_N = (local_N >= 0) & (local_N < len(matrix.to_local()))
    return own_N, local_N[own_N]


def shard_mesh(tensor: torch.Tensor) -> Any:
    """Return the processes that together have the shards of a sharded tensor."""
    assert isinstance(tensor, DTensor)
    mesh = tensor.device_mesh
    return mesh if mesh.ndim == 1 else mesh[SHARD]


def scatter(sharded: torch.Tensor, tensor: torch.Tensor | None, owner: int) -> None:
    """Overwrite a sharded tensor with a whole one of one process; all processes must call this together.

    Args:
        sharded: Tensor to overwrite.
        tensor: Whole tensor; None in all processes of `shard_mesh` but one.
        owner: Rank of that process in `shard_mesh`.
    """
    assert isinstance(sharded, DTensor)
    if tensor is None:
        tensor = torch.empty(sharded.shape, dtype=sharded.dtype, device=sharded.device)
    new = distribute_tensor(tensor, shard_mesh(sharded), [Shard(0)], src_data_rank=owner)
    sharded.to_local().copy_(new.to_local())
