"""Watches tensor operations and writes down the memory that they allocate and release."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from cpt.estimate.timeline import Block, Part, Timeline

_ANSWERS: dict[Any, Callable[[bool], Any]] = {
    torch.ops.aten.equal.default: lambda on_gpu: on_gpu,
    torch.ops.aten._local_scalar_dense.default: lambda _: 1.0,
}
"""What is said of the content of tensors that have none, by operation: on a CPU that they differ, so that
what is kept because of that is counted."""


class Recorder(TorchDispatchMode):
    """Writes every block that tensor operations allocate into a timeline.

    Operations on real tensors alone (indices) run as they are, and so do ranges, of which indices are made;
    those that touch a fake tensor are faked.
    """

    def __init__(self, timeline: Timeline, words: torch.Size, *, on_gpu: bool) -> None:
        """Record into `timeline`.

        Args:
            words: shape of the embedding: what comes to have it is a gradient, and what else has as many
                columns or rows as it has rows holds logits.
            on_gpu: pointwise operations on mixed types do not copy what they cast, as they do on a CPU;
                and what is put aside because two tensors differ is in host memory, which is not recorded.
        """
        super().__init__()
        self._timeline, self._words, self._on_gpu = timeline, words, on_gpu
        self._filed_under: Part | None = None
        self._blocks: Any = WeakIdKeyDictionary()

    @contextmanager
    def filing_under(self, part: Part) -> Iterator[None]:
        """All that is allocated inside belongs to one part."""
        self._filed_under = part
        yield
        self._filed_under = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and enter what it returns."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:  # most of the calls, and no operation
            return func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        faked = any(isinstance(tensor, FakeTensor) for tensor in inputs)
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
        """Enter a tensor's memory, or say anew what it is for.

        Args:
            size: bytes that are counted, if not those that it has.
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
        """Say what tensors that are there already are for."""
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
        """Copies of operands in the type in which the operation computes."""
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
