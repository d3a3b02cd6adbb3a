"""Simulation of one process of a model that is sharded over several (FSDP2), without the other processes.

`fully_shard` needs processes that communicate. Its memory follows from its rules (torch.distributed.fsdp):
float32 shards of all weights and their gradients; while a layer computes, its weights in working precision,
those of the next layer, which are prefetched, and the flat buffer that they arrive in; its gradients until
they are summed in float32; and all weights outside the layers from the start of the forward pass to the end
of the backward pass. With `gradient_sync: last` the last micro batch begins with the whole gradient, in
float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.models.unloaded_model import stores_its_parameters
from cpt.training.distributed.sharding import layers_of

if TYPE_CHECKING:
    from cpt.estimate.allocations import Block, Recorder, Timeline
    from cpt.estimate.job import Job
    from cpt.training.trainable.spec import TrainableSpec

_AT_ONCE = 3
"""Layers in memory at once: the current one, the next one, and the buffer that it arrives in."""

FLOAT_BYTES = 4

_COPIED = "modules_to_save"
"""Part of the names of embeddings beside an adapter, which begin with the values of the model's own."""


class SimulatedShards:
    """The counterpart of `cpt.training.distributed.sharding.ShardedWeights` on fake tensors.

    `weights` are whole tensors in working precision whose memory is not counted; that of the shards is.
    """

    def __init__(self, model: Any, dtype: torch.dtype, processes: int, width: int = FLOAT_BYTES) -> None:
        """Take over a model, and convert its weights to the working precision.

        Args:
            model: Model to take over.
            dtype: Working precision.
            processes: Number of processes.
            width: Bytes of a number in the shards.
        """
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        self.parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
        self.weights = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self._processes, self._gathered_width, self._width = processes, dtype.itemsize, width
        layers = [list(layer.parameters()) for layer in layers_of(model)]
        inside = {id(parameter) for layer in layers for parameter in layer}
        self._groups = [*layers, [p for p in self.parameters.values() if id(p) not in inside]]

    def shard(self, shape: Iterable[int]) -> tuple[int, ...]:
        """Return the shape of the largest shard of a weight: FSDP2 splits rows."""
        rows, *rest = shape
        return (-(-rows // self._processes), *rest)

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of this process's shards of the gradients, in float32."""
        return FLOAT_BYTES * self.numbers(self.weights.values())

    def enter(self, recorder: Recorder, timeline: Timeline) -> None:
        """Record the shards of this process."""
        for parameter in self.parameters.values():
            recorder.enter(parameter, size=0)
        timeline.allocate(self._width * self.numbers(self.parameters.values()), "weights")

    def gather_rest(self, timeline: Timeline) -> Block:
        """Record the gathered weights outside the layers; the caller releases the block."""
        return timeline.allocate(self._gathered_width * sum(p.numel() for p in self._groups[-1]), "weights")

    def gather_layers(self, timeline: Timeline) -> Block:
        """Record the layers that are gathered while the model computes; the caller releases the block."""
        largest = max(sum(p.numel() for p in layer) for layer in self._groups[:-1])
        return timeline.allocate(self._gathered_width * _AT_ONCE * largest, "weights")

    def summed(self, timeline: Timeline) -> None:
        """Record this process's shard of the summed gradients."""
        timeline.allocate(self.gradient_bytes, "gradients")

    def accumulated(self, timeline: Timeline) -> list[Block]:
        """Record whole gradients in float32, by group, that earlier micro batches left without a sum."""
        sizes = [sum(p.numel() for p in group if p.requires_grad) for group in self._groups]
        blocks = [timeline.allocate(FLOAT_BYTES * size, "gradients") for size in sizes]
        # those outside the layers are the last that a micro batch adds
        timeline.release(timeline.allocate(self._gathered_width * sizes[-1], "gradients"))
        return blocks

    def differentiate(
        self,
        loss: torch.Tensor,
        recorder: Recorder,
        timeline: Timeline,
        gathered: Iterable[Block],
        *,
        is_first: bool,
        whole: Sequence[Block] = (),
    ) -> list[Block]:
        """Run the backward pass: the gradients of a group are held until all of them are summed.

        The shards of the sums appear group by group: of 70B on 64 processes none is there when activations
        are at their peak, and 4.4 GB when they are free.

        Args:
            loss: Loss to differentiate.
            recorder: Recorder of the allocations.
            timeline: Timeline to write to.
            gathered: Blocks of gathered weights. FSDP2 frees them before the last sum, that of the weights
                outside the layers.
            is_first: True if there are no shards of sums from an earlier micro batch.
            whole: Blocks of gradients that are not summed yet (`accumulated`), to which a group's are added.

        Returns:
            Blocks of the shards that appeared.
        """
        shards: list[Block] = []
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
                    if number == len(self._groups) - 1:
                        for block in gathered:
                            timeline.release(block)
                    if whole:
                        for p in trained:
                            p.grad = None
                    size = FLOAT_BYTES * sum(p.numel() for p in trained)
                    timeline.release(timeline.allocate(size, "gradients"))
                    for p in trained:
                        p.grad = None
                    if whole:
                        timeline.release(whole[number])
                    if is_first:
                        shards.append(timeline.allocate(FLOAT_BYTES * self.numbers(trained), "gradients"))

            hooks += [parameter.register_post_accumulate_grad_hook(reached) for parameter in trained]
        loss.backward()
        for hook in hooks:
            hook.remove()
        return shards

    def save(self, timeline: Timeline) -> None:
        """Record the gathering of whole weights, one by one, into the main process's host memory."""
        largest = max(parameter.numel() for parameter in self.parameters.values())
        timeline.release(timeline.allocate(FLOAT_BYTES * largest, "weights"))

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None: ...

    def accumulate_grads(self) -> None: ...

    def sync_to_model(self) -> None: ...

    def restore_model(self, model: Any) -> bool:  # noqa: ARG002
        return False

    def numbers(self, tensors: Iterable[torch.Tensor]) -> int:
        """Return the number of elements of this process's shards of some tensors."""
        return sum(torch.Size(self.shard(tensor.shape)).numel() for tensor in tensors)


def read_at_once(model: Any, spec: TrainableSpec, job: Job) -> int:
    """Return the bytes that a process reads into host memory at once: the model, or a shard of a tensor.

    An adapter is drawn whole before it is sharded.
    """
    if not (job.sharded and stores_its_parameters(model)):
        return FLOAT_BYTES * sum(parameter.numel() for parameter in model.parameters())
    drawn = 0
    if spec.adapter:
        parameters = model.named_parameters()
        drawn = sum(p.numel() for name, p in parameters if p.requires_grad and _COPIED not in name)
    largest = max(parameter.numel() for parameter in model.parameters())
    return FLOAT_BYTES * (drawn + -(-largest // job.shards))
