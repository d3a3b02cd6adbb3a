"""Merge one tensor by mergekit's methods, in chunks of rows where the method allows it.

A method is elementwise if every weight of the result depends on the same weight of the models only; it is
applied to chunks of rows. TIES and Breadcrumbs become elementwise once the changes that they keep are known
(`merging.topk_threshold`). Other methods need whole tensors. `expected_bytes` computes the memory from the
plan.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from cpt.errors import DataError
from merging.methods import Method
from merging.sources import Source, is_finite
from merging.topk_threshold import SORTED, Ranks, Selector, magnitude_ranks, outlier_ranks, selector

if TYPE_CHECKING:
    from merging.plan import Plan


CHUNK = 2**19
"""Weights of a tensor in one chunk: chunks of a few models fit into a processor's cache."""

SIDE_BY_SIDE = 8
"""Largest number of chunks that are merged at the same time."""

TWO_AT_A_TIME = 2**22

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a tensor that are merged together.

    Attributes:
        sources: Tensors of the models, the base first if there is one; all of one shape.
        has_base: True if the first source is the base.
        method: Merge method; None if the only source is copied.
        shared: Parameters of the method.
        per_model: Parameters of each source except the base.
        seed: Seed of random methods.
        rows: Places of the rows in the tensor: [R] int64; None for the whole tensor in order.
    """

    sources: tuple[Source, ...]
    has_base: bool = False
    method: Method | None = None
    shared: dict[str, Any] | None = None
    per_model: tuple[dict[str, Any], ...] = ()
    seed: int = 0
    rows: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sources[0].shape

    @property
    def height(self) -> int:
        """Number of rows; a tensor without dimensions has one."""
        return self.shape[0] if self.shape else 1


@dataclass(frozen=True, eq=False)
class TensorPlan:
    """A tensor of the result.

    Attributes:
        name: Name of the tensor.
        shape: Shape of the tensor.
        dtype: Data type of the result.
        compute: Data type of the arithmetic; None for the widest of each piece's sources.
        pieces: Pieces that together have every row once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    compute: torch.dtype | None
    pieces: tuple[Piece, ...]

    def chunks(self) -> Iterator[torch.Tensor]:
        """Compute the merged tensor in consecutive chunks.

        Raises:
            DataError: A model cannot be read, or the result has values that are no finite numbers.
        """
        if len(self.pieces) == 1 and self.pieces[0].rows is None:
            yield from self._checked(self.pieces[0])
            return
        height = sum(piece.height for piece in self.pieces)
        whole = torch.empty((height, *self.pieces[0].shape[1:]), dtype=self.dtype)
        for piece in self.pieces:
            done = 0
            rows = torch.arange(piece.height) if piece.rows is None else torch.from_numpy(piece.rows)
            for chunk in self._checked(piece):
                whole[rows[done : done + len(chunk)]] = chunk
                done += len(chunk)
        yield whole

    def merged(self) -> torch.Tensor:
        """Return the merged tensor."""
        return torch.cat(list(self.chunks())).reshape(self.shape)

    def _checked(self, piece: Piece) -> Iterator[torch.Tensor]:
        for chunk in _chunks(self.name, piece, self.dtype, self.compute):
            if not is_finite(chunk):
                raise DataError(
                    f"the merge of {self.name} overflows {str(self.dtype).removeprefix('torch.')}, "
                    "or its parameters make a division by zero",
                    hint="Use smaller weights, or another dtype or compute_dtype.",
                )
            yield chunk


def _chunks(
    name: str, piece: Piece, dtype: torch.dtype, compute: torch.dtype | None
) -> Iterator[torch.Tensor]:
    if piece.method is None:
        for (rows,) in reads(piece.sources, piece.height):
            yield rows.to(dtype)
    elif not piece.sources[0].dtype.is_floating_point:
        yield from _agreed(name, piece, dtype)
    elif piece.method.elementwise:
        yield from _side_by_side(piece, dtype, compute)
    elif (ranks := ranks_of(piece)) is not None:
        yield from _sparse(piece, ranks, dtype, compute)
    else:
        tensors = [source.read(0, piece.height).reshape(piece.shape) for source in piece.sources]
        merged = _apply(piece, _aligned(tensors, compute), dtype)
        yield merged.reshape(piece.height, *piece.shape[1:])


def _side_by_side(piece: Piece, dtype: torch.dtype, compute: torch.dtype | None) -> Iterator[torch.Tensor]:
    """Merge as many chunks at a time as PyTorch has threads, each by one thread.

    If all threads worked on one chunk, they would wait for each other at every small operation. Only one
    tensor can be merged in this way at a time, because PyTorch's thread count is global to the process.
    """

    def merged(rows: slice) -> torch.Tensor:
        return _apply(piece, _read(piece.sources, rows, compute), dtype)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from in_order(merged, _slices(piece.sources, piece.height), min(threads, SIDE_BY_SIDE))
    finally:
        torch.set_num_threads(threads)


def _apply(
    piece: Piece, tensors: Sequence[torch.Tensor], dtype: torch.dtype | None, implementation: Any = None
) -> torch.Tensor:
    """Apply mergekit's method to tensors of one data type; random methods draw from the piece's stream."""
    from mergekit.merge_methods.base import TensorGroup

    method = piece.method
    assert method is not None
    group = TensorGroup.from_tensors(tensors, base_index=0 if piece.has_base else None)
    first = int(piece.has_base)
    parameters = dict(piece.shared or {})
    for name in piece.per_model[0] if piece.per_model else ():
        parameters[name] = {number + first: values[name] for number, values in enumerate(piece.per_model)}
    with _seeded(piece.seed) if method.random else _unseeded():
        (merged,) = (implementation or method.implementation)([group], parameters=parameters, out_dtype=dtype)
    result: torch.Tensor = merged
    return result


def ranks_of(piece: Piece) -> list[Ranks | None] | None:
    """Return the ranks of each model's kept changes for TIES and Breadcrumbs (None: all); else None.

    With `rescale` the changes are scaled by sums over whole tensors, so mergekit computes the whole tensor.
    """
    method, shared = piece.method, piece.shared or {}
    assert method is not None
    if method.name not in ("ties", "breadcrumbs", "breadcrumbs-ties") or shared.get("rescale"):
        return None
    size = int(np.prod(piece.shape, dtype=np.int64))
    found: list[Ranks | None] = []
    for values in piece.per_model:
        density = values["density"]
        if density >= 1:
            found.append(None)
        elif method.name == "ties":
            found.append(magnitude_ranks(size, density))
        else:
            found.append(outlier_ranks(size, density, values["gamma"]))
    return found


def _sparse(
    piece: Piece, ranks: Sequence[Ranks | None], dtype: torch.dtype, compute: torch.dtype | None
) -> Iterator[torch.Tensor]:
    """Apply mergekit's method without its dropping to the changes that are kept."""
    size = int(np.prod(piece.shape, dtype=np.int64))
    compute = compute or _widest(piece.sources)
    selectors = _selectors(piece, ranks, size, compute)
    method = piece.method
    assert method is not None
    dense = replace(method.implementation, sparsification_method=None)
    piece = replace(piece, per_model=tuple({"weight": values["weight"]} for values in piece.per_model))
    for base, *models in reads(piece.sources, piece.height, compute):
        kept_changes = []
        for model, select in zip(models, selectors, strict=True):
            change = model - base
            kept_changes.append(change * select(change).to(compute))
        change = _apply(piece, [torch.zeros_like(base), *kept_changes], None, dense)
        yield (base + change).to(dtype)


def _selectors(
    piece: Piece, ranks: Sequence[Ranks | None], size: int, compute: torch.dtype
) -> list[Selector]:
    """Find each model's kept changes, two models at a time unless the tensor is large."""

    def of(model: Source, kept: Ranks | None) -> Selector:
        if kept is None:
            return lambda change: torch.ones_like(change, dtype=torch.bool)
        return selector(_Changes(piece.sources[0], model, piece.height, compute), size, kept)

    with ThreadPoolExecutor(max_workers=2 if size <= TWO_AT_A_TIME else 1) as pool:
        return list(pool.map(of, piece.sources[1:], ranks))


@dataclass(frozen=True, eq=False)
class _Changes:
    """The difference of a model from the base, chunk by chunk."""

    base: Source
    model: Source
    height: int
    compute: torch.dtype

    def __call__(self) -> Iterator[torch.Tensor]:
        for base, model in reads((self.base, self.model), self.height, self.compute):
            yield model - base


def _agreed(name: str, piece: Piece, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Copy a tensor of whole numbers (positions, masks), which must be the same in all models."""
    for first, *others in reads(piece.sources, piece.height):
        if any(not torch.equal(first, other) for other in others):
            raise DataError(f"{name} holds whole numbers that differ between the models: it cannot be merged")
        yield first.to(dtype)


def reads(
    sources: Sequence[Source], height: int, compute: torch.dtype | None = None
) -> Iterator[list[torch.Tensor]]:
    """Read the sources' rows in one data type, chunk by chunk; the next chunk is read meanwhile."""
    yield from in_order(lambda rows: _read(sources, rows, compute), _slices(sources, height), workers=1)


def _slices(sources: Sequence[Source], height: int) -> list[slice]:
    """Return the rows of each chunk."""
    width = max(1, int(np.prod(sources[0].shape[1:], dtype=np.int64)))
    step = max(1, CHUNK // width)
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def _read(sources: Sequence[Source], rows: slice, compute: torch.dtype | None) -> list[torch.Tensor]:
    tensors = [source.read(rows.start, rows.stop) for source in sources]
    return _aligned(tensors, compute) if sources[0].dtype.is_floating_point else tensors


def in_order(work: Callable[[slice], T], items: Sequence[slice], workers: int) -> Iterator[T]:
    """Return the results of a function in order, computed in threads while earlier ones are used."""
    if len(items) == 1:
        yield work(items[0])
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _aligned(tensors: Sequence[torch.Tensor], compute: torch.dtype | None) -> list[torch.Tensor]:
    """Convert tensors to one data type: the given one, or the widest."""
    compute = compute or reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return [tensor.to(compute) for tensor in tensors]


def _widest(sources: Sequence[Source]) -> torch.dtype:
    return reduce(torch.promote_types, (source.dtype for source in sources))


def seed_of(seed: int, name: str, piece: int) -> int:
    """Return the seed of a tensor's piece: 63 bits of the SHA-256 of seed, piece number and name."""
    digest = hashlib.sha256(f"{seed}/{piece}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw PyTorch's random numbers from a seed; the former stream is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextmanager
def _unseeded() -> Iterator[None]:
    yield


PROGRAM = 350_000_000
"""Approximate bytes that Python, PyTorch and mergekit take before the first tensor is read."""
_WRITTEN_BEHIND = 8
_COUNTERS = 2**20
"""Bytes of the counters of magnitudes, per model."""
_SORTING = 28
"""Bytes per weight where equal magnitudes are sorted in mergekit's way."""


def expected_bytes(plan: Plan) -> int:
    """Compute the peak memory of a merge: its largest tensor, and chunks that wait to be written.

    The memory of the program itself, `PROGRAM`, is not included.
    """
    waiting = _WRITTEN_BEHIND * CHUNK * plan.dtype.itemsize
    return max(_of_tensor(tensor) for tensor in plan.tensors) + waiting


def _of_tensor(tensor: TensorPlan) -> int:
    whole = 0
    if len(tensor.pieces) > 1 or tensor.pieces[0].rows is not None:
        whole = math.prod(tensor.shape) * tensor.dtype.itemsize
    return whole + max(_of_piece(piece, tensor) for piece in tensor.pieces)


def _of_piece(piece: Piece, tensor: TensorPlan) -> int:
    """Compute the bytes of all models' chunks, several merged or one read ahead; or of whole tensors."""
    size = math.prod(piece.shape)
    stored = sum(source.dtype.itemsize for source in piece.sources)
    compute = (tensor.compute or _widest(piece.sources)).itemsize
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
