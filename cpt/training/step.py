"""Take one optimizer step: compute the gradient of a global batch's mean loss, and apply it.

On several processes each takes its rows of the batch and divides by the targets of the whole batch. When
every process has the whole model, the gradients are summed once per step, in float32, during the last
backward pass: less traffic than DistributedDataParallel's sum per backward pass, more exact than one in
bfloat16, and it leaves the working weights' gradients free to be collected after every micro batch. All
processes then clip, step and round alike, and stay equal to the last bit. Divided weights (FSDP2) have their
gradients averaged by torch in the backward pass: of every micro batch, or of the last one (`gradient_sync`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from cpt.models.packed_model import PackedLanguageModel
from cpt.training.data import PackedSequence, micro_batches, target_weight
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.overlap import OverlappedSum
from cpt.training.distributed.tensors import whole
from cpt.training.objectives.base import Loss
from cpt.training.settings import Settings
from cpt.training.trainable.parameters import TrainableParameters


@dataclass(frozen=True)
class Gradient:
    """Facts about a global batch's gradient before it is applied.

    Attributes:
        loss_nats: mean loss over the batch's targets, by their weights.
        norm: norm of the gradient, before it was clipped.
        parts: mean of each part of the loss over its own targets, not weighted; a part that has no targets in
            the batch is left out.
    """

    loss_nats: float
    norm: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Stepper:
    """The gradients of global batches, and their application to the weights."""

    def __init__(
        self,
        module: PackedLanguageModel,
        trained: TrainableParameters,
        optimizer: torch.optim.Optimizer,
        processes: ProcessGroup,
        settings: Settings,
        loss: Loss,
        told_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take gradients of a module's loss.

        Args:
            told_to_stop: function that is called between micro batches, because a step may take longer than
                the 30 seconds after which a launcher kills a process that it has told to stop.
        """
        self._loss = loss
        self._module, self._trained, self._optimizer = module, trained, optimizer
        self._processes, self._settings = processes, settings
        self._told_to_stop = told_to_stop
        self._sum: OverlappedSum | None = None
        if not processes.sharding:
            weights, parameters = trained.master_weights, trained.parameters
            self._sum = OverlappedSum(processes, weights, parameters, trained.accumulate_grad)

    def gradient(self, batch: Sequence[PackedSequence]) -> Gradient | None:
        """Compute the gradient of the batch's mean loss, clipped, in the weights that train.

        Returns:
            None if a process was told to stop before its last micro batch; the gradient is then incomplete
            and must be dropped.
        """
        # a batch of nothing but prompts has no targets, and a gradient of 0
        targets, of_parts = target_weight(batch) or 1, self._loss.targets(batch)
        averaged_over = self._processes.count if self._processes.sharding else 1
        sums = torch.zeros(1 + len(of_parts), device=self._processes.device)
        stops = False
        sub_batches = self._sub_batches(batch)
        packed_batches = micro_batches([rows for rows, _ in sub_batches], self._processes.device)
        for number, ((rows, weight), packed) in enumerate(zip(sub_batches, packed_batches, strict=True)):
            if number and (stops := self._stops(self._told_to_stop())):
                break
            is_last = number == len(sub_batches) - 1
            if self._sum and is_last:
                self._sum.begin()
            if isinstance(self._module, FSDPModule):  # the last sub-batch is the last one in every process
                every = self._settings.config.gradient_sync == "every"
                self._module.set_requires_gradient_sync(every or is_last)
            nats, parts = (weight * each for each in self._loss(self._module, packed, rows))
            # a mean over the global batch, however many targets a micro batch has
            (nats * averaged_over / targets).backward()
            self._trained.accumulate_grads()
            sums += torch.cat([nats.detach()[None], parts])
        if stops and (self._processes.count == 1 or self._processes.sharding):
            return None
        if self._sum:
            self._sum.finish()
        self._trained.mask_grads()
        found = self._processes.sum(torch.cat([sums.new_full((1,), float(stops)), sums]))
        # the step's one wait for the device: whether the gradient is fit to be applied is decided here
        stopped, total, *totals, norm = torch.cat([found, self._clip()[None]]).tolist()
        if stopped:
            return None
        means = {
            name: of_part / count
            for (name, count), of_part in zip(of_parts.items(), totals, strict=True)
            if count
        }
        return Gradient(total / targets, norm, means)

    def apply(self, rate: float) -> None:
        """Move the weights by the gradient, and forget it.

        Args:
            rate: learning rate of the schedule; each group takes its multiple of it, which may rise at first.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate * self._trained.rate(group)
        self._optimizer.step()
        self._trained.after_step()
        self._optimizer.zero_grad()

    def drop(self) -> None:
        """Forget the gradient; the weights stay as they are."""
        self._optimizer.zero_grad()

    def _sub_batches(self, batch: Sequence[PackedSequence]) -> list[tuple[Sequence[PackedSequence], float]]:
        """Return the rows that the model reads one after the other, each with the weight of its loss.

        Processes that gather sharded weights together read sub-batches of the same kinds in the same order.
        One that has no rows of a kind reads a row of the batch with a weight of 0.
        """
        processes, size, kind = self._processes, self._settings.micro_batch, self._loss.kind
        own = processes.micro_batches(batch, size)
        every = [own]
        if processes.sharding:
            every = [processes.micro_batches(batch, size, rank) for rank in range(processes.count)]
        found: list[tuple[Sequence[PackedSequence], float]] = []
        for number, rows in enumerate(own):
            for each in sorted({kind(row) for micro in every for row in micro[number]}):
                chosen = [row for row in rows if kind(row) == each]
                if chosen:
                    found.append((chosen, 1.0))
                else:
                    found.append(([next(row for row in batch if kind(row) == each)], 0.0))
        for sub_batch, _ in found:
            self._loss.announce(sub_batch)
        return found

    def _stops(self, told: bool) -> bool:
        """Return True if this process does no more of the step.

        Processes that gather weights together must agree on that. Others find out when they sum what they
        have, and need not wait for each other before.
        """
        return self._processes.any(told) if self._processes.sharding else told

    def _clip(self) -> torch.Tensor:
        """Scale the gradient down to the largest norm allowed; return the norm that it had: []."""
        weights = self._trained.weights.values()
        norm = whole(get_total_norm([weight.grad for weight in weights if weight.grad is not None]))
        clip_grads_with_norm_(weights, self._settings.config.clip, norm)
        return norm
