"""How much memory a merge will take at most, beside the program itself: from the plan alone."""

from __future__ import annotations

import math

import torch

from merging.kernels import CHUNK, SIDE_BY_SIDE, TWO_AT_A_TIME, Piece, TensorPlan, ranks_of
from merging.plan import Plan
from merging.selection import SORTED

PROGRAM = 350_000_000
"""Bytes that Python, PyTorch and mergekit take before the first tensor is read, about."""
_WRITTEN_BEHIND = 8
_COUNTERS = 2**20
"""Bytes in which magnitudes are counted, per model."""
_SORTING = 28
"""Bytes per weight where equal magnitudes are sorted as mergekit sorts them."""


def expected_bytes(plan: Plan) -> int:
    """The most that any tensor of the plan takes while it is merged, and what waits to be written."""
    waiting = _WRITTEN_BEHIND * CHUNK * plan.dtype.itemsize
    return max(_of_tensor(tensor) for tensor in plan.tensors) + waiting


def _of_tensor(tensor: TensorPlan) -> int:
    whole = 0
    if len(tensor.pieces) > 1 or tensor.pieces[0].rows is not None:
        whole = math.prod(tensor.shape) * tensor.dtype.itemsize
    return whole + max(_of_piece(piece, tensor) for piece in tensor.pieces)


def _of_piece(piece: Piece, tensor: TensorPlan) -> int:
    """Chunks of all models, several worked on or the next read ahead; or whole tensors, where needed."""
    size = math.prod(piece.shape)
    stored = sum(source.dtype.itemsize for source in piece.sources)
    compute = (tensor.compute or _widest(piece)).itemsize
    arithmetic = (len(piece.sources) + 3) * compute
    width = math.prod(piece.shape[1:])
    chunk = min(size, max(width, CHUNK))
    if piece.method is None:
        return chunk * 2 * stored
    if piece.method.elementwise:
        at_once = min(torch.get_num_threads(), SIDE_BY_SIDE)
        return chunk * at_once * (stored + len(piece.sources) * compute + arithmetic)
    if ranks_of(piece) is not None:
        at_once = 2 if size <= TWO_AT_A_TIME else 1
        sorting = (_SORTING * at_once + len(piece.per_model)) * size if size <= SORTED else 0
        chunks = chunk * (2 * (stored + len(piece.sources) * compute) + at_once * arithmetic)
        return chunks + len(piece.per_model) * _COUNTERS + sorting
    return size * (stored + arithmetic + tensor.dtype.itemsize)


def _widest(piece: Piece) -> torch.dtype:
    dtype = piece.sources[0].dtype
    for source in piece.sources[1:]:
        dtype = torch.promote_types(dtype, source.dtype)
    return dtype
