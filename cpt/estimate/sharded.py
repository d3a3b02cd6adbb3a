"""One process's part of a model whose weights are divided among several (FSDP2), without the others.

`fully_shard` needs processes that talk to each other. What it holds follows from its rules
(torch.distributed.fsdp): float32 shards of all weights and their gradients; while a layer computes, its
weights in working precision, those of the next one, which are fetched meanwhile, and the flat buffer that
they arrive in; its gradients until they are summed in float32; and all weights outside of the layers from the
forward pass's beginning to the backward pass's end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.training.distributed.sharding import layers_of

if TYPE_CHECKING:
    from cpt.estimate.allocations import Block, Recorder, Timeline

_AT_ONCE = 3
"""A layer, the next one, and the buffer that it arrives in."""

FLOAT_BYTES = 4


class SimulatedShards:
    """The counterpart of `cpt.training.distributed.sharding.ShardedWeights` on fake tensors.

    `weights` are whole ones in working precision, of which no memory is counted; the parts are.
    """

    def __init__(self, model: Any, dtype: torch.dtype, processes: int) -> None:
        """Take over a model; its weights are in working precision from now on."""
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        self.parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
        self.weights = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self._processes, self._width = processes, dtype.itemsize
        layers = [list(layer.parameters()) for layer in layers_of(model)]
        inside = {id(parameter) for layer in layers for parameter in layer}
        self._groups = [*layers, [p for p in self.parameters.values() if id(p) not in inside]]

    def shard(self, shape: Iterable[int]) -> tuple[int, ...]:
        """Shape of the largest part of a weight: rows are shared out."""
        rows, *rest = shape
        return (-(-rows // self._processes), *rest)

    @property
    def trained_bytes(self) -> int:
        """Of this process's part of the weights that train, in float32."""
        return self._bytes(self.weights.values())

    def enter(self, recorder: Recorder, timeline: Timeline) -> None:
        """Count the parts that this process has."""
        for parameter in self.parameters.values():
            recorder.enter(parameter, size=0)
        timeline.allocate(self._bytes(self.parameters.values()), "weights")

    def gathered(self, timeline: Timeline) -> list[Block]:
        """Count what is in working precision while the model computes; to be released behind it."""
        *layers, rest = ([p.numel() * self._width for p in group] for group in self._groups)
        return [
            timeline.allocate(sum(rest), "weights"),
            timeline.allocate(_AT_ONCE * max(map(sum, layers)), "weights"),
        ]

    def summed(self, timeline: Timeline) -> None:
        """Count the part of the gradients' sum that this process has."""
        timeline.allocate(self.trained_bytes, "gradients")

    def differentiate(self, loss: torch.Tensor, recorder: Recorder, timeline: Timeline) -> None:
        """The backward pass: a group's gradients are there until it is through, and they are summed."""
        waiting: dict[int, set[int]] = {}
        hooks = []
        for number, group in enumerate(self._groups):
            trained = [parameter for parameter in group if parameter.requires_grad]
            waiting[number] = {id(parameter) for parameter in trained}

            def reached(parameter: torch.Tensor, number: int = number, trained: Any = trained) -> None:
                assert parameter.grad is not None
                recorder.enter(parameter.grad, "gradients")
                waiting[number].discard(id(parameter))
                if not waiting[number]:
                    size = FLOAT_BYTES * sum(p.numel() for p in trained)
                    timeline.release(timeline.allocate(size + size // self._processes, "gradients"))
                    for p in trained:
                        p.grad = None

            hooks += [parameter.register_post_accumulate_grad_hook(reached) for parameter in trained]
        loss.backward()
        for hook in hooks:
            hook.remove()

    def save(self, timeline: Timeline) -> None:
        """Whole weights are put together one by one, and handed to the main process's host memory."""
        largest = max(parameter.numel() for parameter in self.parameters.values())
        timeline.release(timeline.allocate(FLOAT_BYTES * largest, "weights"))

    def attach(self, optimizer: torch.optim.Optimizer) -> None: ...

    def collect(self) -> None: ...

    def publish(self) -> None: ...

    def release(self, model: Any) -> None: ...

    def _bytes(self, parameters: Iterable[nn.Parameter]) -> int:
        shards = (self.shard(parameter.shape) for parameter in parameters)
        return FLOAT_BYTES * sum(torch.Size(shard).numel() for shard in shards)
