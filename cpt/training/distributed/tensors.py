"""Tensors that may be sharded over processes, as whole ones and back."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be sharded as a whole one; all processes must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor on the device of a weight, sharded as the weight is: the inverse of `whole`.

    State of another shape than its weight's (a step count) is not sharded.
    """
    tensor = tensor.to(weight.device)
    if isinstance(weight, DTensor) and tensor.shape == weight.shape:
        return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)
    return tensor
