"""Memory blocks over time, and a recorder that takes them from tensor operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

Part = Literal["weights", "gradients", "optimizer", "activations", "logits", "checkpoint", "gates", "other"]
"""weights: in working precision and float32 master weights. gradients: of both. activations: tensors for the
backward pass, and temporary ones. logits: tensors with a column per token of the vocabulary. checkpoint:
copies of weights and optimizer state, to be written or rolled back to. gates: copies that gates may
restore."""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass
class Block:
    """A block of memory, from its allocation to its release (never, if None); both count events."""

    bytes: int
    part: Part
    born: int
    died: int | None = None


@dataclass
class Timeline:
    """All allocated blocks in order, and the phases of the run in which they were held.

    Attributes:
        blocks: Blocks in order of allocation.
        moments: First and last event of each stretch of a phase, by name of the phase.
    """

    blocks: list[Block] = field(default_factory=list)
    moments: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _events: int = 0

    def allocate(self, size: int, part: Part) -> Block:
        """Add a block of `size` bytes."""
        block = Block(size, part, self._next())
        self.blocks.append(block)
        return block

    def release(self, block: Block) -> None:
        """Mark a block as free."""
        if block.died is None:
            block.died = self._next()

    @contextmanager
    def moment(self, name: str) -> Iterator[None]:
        """Assign the events inside the block to the phase `name`."""
        first = self._events
        yield
        self.moments.setdefault(name, []).append((first, self._events))

    def held(self, event: int) -> list[Block]:
        """Return the blocks that were held just after an event."""
        return [b for b in self.blocks if b.born <= event and (b.died is None or b.died > event)]

    def peak(self, moment: str) -> list[Block]:
        """Return the blocks that were held at the peak of a phase."""
        totals = self._totals()
        stretches = (range(first, last + 1) for first, last in self.moments[moment])
        return self.held(max((event for stretch in stretches for event in stretch), key=totals.__getitem__))

    def _totals(self) -> list[int]:
        """Return the bytes held after every event, from 0 before the first."""
        changes = [0] * (self._events + 1)
        for block in self.blocks:
            changes[block.born] += block.bytes
            if block.died is not None:
                changes[block.died] -= block.bytes
        total, totals = 0, []
        for change in changes:
            total += change
            totals.append(total)
        return totals

    def _next(self) -> int:
        self._events += 1
        return self._events


def by_part(blocks: list[Block]) -> dict[Part, int]:
    """Return the bytes of blocks by part, with every part."""
    sums: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for block in blocks:
        sums[block.part] += block.bytes
    return sums


_ANSWERS: dict[Any, Callable[[bool], Any]] = {
    torch.ops.aten.equal.default: lambda on_gpu: on_gpu,
    torch.ops.aten._local_scalar_dense.default: lambda _: 1.0,
}
"""Results of operations that read the content of fake tensors. On a CPU tensors differ: copies that
are kept because of a difference are counted."""


class Recorder(TorchDispatchMode):
    """A dispatch mode that writes every block that tensor operations allocate into a timeline.

    Operations on real tensors alone (indices) run for real, and so do ranges, from which indices are made;
    operations on a fake tensor are simulated.
    """

    def __init__(self, timeline: Timeline, words: torch.Size, *, on_gpu: bool) -> None:
        """Record into `timeline`.

        Args:
            timeline: Timeline to write to.
            words: Shape of the embedding. New tensors of this shape are gradients; others with a side of its
                number of rows are logits.
            on_gpu: True for a GPU: pointwise operations on mixed types do not copy their operands, as they
                do on a CPU, and frozen float32 weights are in host memory, which is not recorded.
        """
        super().__init__()
        self._timeline, self._words, self._on_gpu = timeline, words, on_gpu
        self._filed_under: Part | None = None
        self._blocks: Any = WeakIdKeyDictionary()

    @contextmanager
    def filing_under(self, part: Part) -> Iterator[None]:
        """Assign all allocations inside the block to one part."""
        self._filed_under = part
        yield
        self._filed_under = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and record its results."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:  # most calls, and not an operation
            return func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(isinstance(tensor, DTensor) for tensor in inputs):  # its operations on shards come here next
            return NotImplemented
        faked = any(isinstance(tensor, FakeTensor) or tensor.is_meta for tensor in inputs)
        if faked and func in _ANSWERS:
            return _ANSWERS[func](self._on_gpu)
        if not faked and (inputs or func.overloadpacket is torch.ops.aten.arange):
            with unset_fake_temporarily():
                result = func(*args, **kwargs)
        else:
            result = func(*args, **kwargs)
        if not self._on_gpu and torch.Tag.pointwise in func.tags:
            self._cast(inputs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.enter(leaf)
        return result

    def enter(self, tensor: torch.Tensor, part: Part | None = None, size: int | None = None) -> None:
        """Record the memory of a tensor, or change its part.

        Args:
            tensor: Tensor to record.
            part: Part of the memory; by default derived from the shape.
            size: Bytes to count instead of the tensor's own.
        """
        storage = tensor.untyped_storage()
        block: Block | None = self._blocks.get(storage)
        if block is None:
            size = storage.nbytes() if size is None else size
            block = self._timeline.allocate(size, part or self._part(tensor))
            self._blocks[storage] = block
            weakref.finalize(storage, self._timeline.release, block)
        elif part is not None:
            block.part = part

    def assign(self, part: Part, tensors: Mapping[str, torch.Tensor | None]) -> None:
        """Assign existing tensors to a part."""
        for tensor in tensors.values():
            if tensor is not None:
                self.enter(tensor, part)

    def _part(self, tensor: torch.Tensor) -> Part:
        if self._filed_under is not None:
            return self._filed_under
        if tensor.shape == self._words:
            return "gradients"
        return "logits" if self._words[0] in tensor.shape else "activations"

    def _cast(self, inputs: list[torch.Tensor]) -> None:
        """Record temporary copies of operands in the type in which the operation computes."""
        floating = [tensor for tensor in inputs if tensor.is_floating_point() and tensor.ndim]
        if len({tensor.dtype for tensor in floating}) < 2:
            return
        common = max((tensor.dtype for tensor in floating), key=lambda dtype: dtype.itemsize)
        copies = [
            self._timeline.allocate(tensor.numel() * common.itemsize, self._part(tensor))
            for tensor in floating
            if tensor.dtype != common
        ]
        for copy in copies:
            self._timeline.release(copy)
