"""The arithmetic on one tensor: mergekit's methods, on as little of the tensor at a time as they allow.

A method whose every weight depends on the same weight of the models only is applied to chunks of rows. TIES
and Breadcrumbs are so once it is known which changes they keep (`merging.topk_threshold`). Other methods need
whole tensors.

How much memory a merge will take at most, beside the program itself: from the plan alone.
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
"""Weights of a tensor that are worked on at a time; the chunks of a few models fit a processor's cache."""

SIDE_BY_SIDE = 8
"""Chunks that are merged at a time, at most."""

TWO_AT_A_TIME = 2**22

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a tensor that are merged together.

    Attributes:
        sources: of the models, the base first if there is one; all of one shape.
        has_base: whether the first source is the base.
        method: None if the only source is copied.
        shared: the method's parameters.
        per_model: parameters of each source but the base.
        seed: of random methods.
        rows: [R] int64, where the rows are in the tensor; None for all of it in order.
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
        """Rows; a tensor without dimensions has one."""
        return self.shape[0] if self.shape else 1


@dataclass(frozen=True, eq=False)
class TensorPlan:
    """A tensor of the result.

    Attributes:
        dtype: of the result.
        compute: data type of the arithmetic; None for the widest of each piece's sources.
        pieces: together they have every row once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    compute: torch.dtype | None
    pieces: tuple[Piece, ...]

    def chunks(self) -> Iterator[torch.Tensor]:
        """The merged tensor, in parts that follow each other.

        Raises:
            DataError: a model cannot be read, or the result holds values that are no finite numbers.
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
        """The merged tensor."""
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
    """Merged chunks, as many at a time as PyTorch has threads, each by one thread.

    All threads at one chunk would wait for each other at every small operation. Only one tensor
    can be merged so at a time: the number of PyTorch's threads is the process's.
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
    """mergekit's method on tensors of one data type; random ones draw from the piece's own stream."""
    from mergekit.merge_methods.base import TensorGroup

    method = piece.method
    assert method is not None
    group = TensorGroup.from_tensors(tensors, base_index=0 if piece.has_base else None)
    first = int(piece.has_base)
    parameters = dict(piece.shared or {})
    for name in piece.per_model[0] if piece.per_model else ():
        parameters[name] = {number + first: values[name] for number, values in enumerate(piece.per_model)}
    with _seeded(piece.seed) if method.random else _as_it_is():
        (merged,) = (implementation or method.implementation)([group], parameters=parameters, out_dtype=dtype)
    result: torch.Tensor = merged
    return result


def ranks_of(piece: Piece) -> list[Ranks | None] | None:
    """For TIES and Breadcrumbs which changes of each model are kept (None: all); else None.

    With `rescale` the changes are scaled by sums over whole tensors, which are left to mergekit.
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
    """Task arithmetic on the changes that are kept: mergekit's, with nothing left for it to drop."""
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
    """Of each model; two at a time, unless the tensor is large."""

    def of(model: Source, kept: Ranks | None) -> Selector:
        if kept is None:
            return lambda change: torch.ones_like(change, dtype=torch.bool)
        return selector(_Changes(piece.sources[0], model, piece.height, compute), size, kept)

    with ThreadPoolExecutor(max_workers=2 if size <= TWO_AT_A_TIME else 1) as pool:
        return list(pool.map(of, piece.sources[1:], ranks))


@dataclass(frozen=True, eq=False)
class _Changes:
    """A model's difference from the base, chunk by chunk."""

    base: Source
    model: Source
    height: int
    compute: torch.dtype

    def __call__(self) -> Iterator[torch.Tensor]:
        for base, model in reads((self.base, self.model), self.height, self.compute):
            yield model - base


def _agreed(name: str, piece: Piece, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """A tensor that holds no weights (positions, masks): the same in all models."""
    for first, *others in reads(piece.sources, piece.height):
        if any(not torch.equal(first, other) for other in others):
            raise DataError(f"{name} holds whole numbers that differ between the models: it cannot be merged")
        yield first.to(dtype)


def reads(
    sources: Sequence[Source], height: int, compute: torch.dtype | None = None
) -> Iterator[list[torch.Tensor]]:
    """The sources' rows in one data type, chunk by chunk; the next chunk is read meanwhile."""
    yield from in_order(lambda rows: _read(sources, rows, compute), _slices(sources, height), workers=1)


def _slices(sources: Sequence[Source], height: int) -> list[slice]:
    """Rows of each chunk."""
    width = max(1, int(np.prod(sources[0].shape[1:], dtype=np.int64)))
    step = max(1, CHUNK // width)
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def _read(sources: Sequence[Source], rows: slice, compute: torch.dtype | None) -> list[torch.Tensor]:
    tensors = [source.read(rows.start, rows.stop) for source in sources]
    return _aligned(tensors, compute) if sources[0].dtype.is_floating_point else tensors


def in_order(work: Callable[[slice], T], items: Sequence[slice], workers: int) -> Iterator[T]:
    """The results of a function, computed in threads while those before them are used."""
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
    """Tensors of one data type: the given one, or the widest."""
    compute = compute or reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return [tensor.to(compute) for tensor in tensors]


def _widest(sources: Sequence[Source]) -> torch.dtype:
    return reduce(torch.promote_types, (source.dtype for source in sources))


def seed_of(seed: int, name: str, piece: int) -> int:
    """The seed of a tensor's piece: 63 bits of the SHA-256 of the merge's seed, its number and the name."""
    digest = hashlib.sha256(f"{seed}/{piece}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's random numbers from a seed, the former stream restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


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
