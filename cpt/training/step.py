"""One optimizer step: the gradient of a global batch's mean loss, and the move that it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from cpt.packed.model import PackedLanguageModel
from cpt.training.data import PackedSequence, micro_batches, target_count
from cpt.training.settings import Settings
from cpt.training.trains.trained import Trained


@dataclass(frozen=True)
class Gradient:
    """What is known of a global batch's gradient before it is applied.

    Attributes:
        loss_nats: mean loss over the batch's targets.
        norm: of the gradient, before it was clipped.
    """

    loss_nats: float
    norm: float


class Stepper:
    """Takes gradients of global batches and applies, or drops, them."""

    def __init__(
        self,
        module: PackedLanguageModel,
        trained: Trained,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        settings: Settings,
    ) -> None:
        self._trained, self._accelerator, self._settings = trained, accelerator, settings
        self._module: Any
        self._optimizer: Any
        # the optimizer's state is where its weights are, in a precision that moving it would change
        self._module, self._optimizer = accelerator.prepare(module, optimizer, device_placement=[True, False])

    def gradient(self, batch: Sequence[PackedSequence]) -> Gradient:
        """The gradient of the batch's mean loss, clipped, in the weights that train."""
        targets = target_count(batch)
        device, size = self._accelerator.device, self._settings.micro_batch
        loss = torch.zeros((), device=device)
        for packed in micro_batches(batch, size, device):
            nats = self._module(packed)
            # a mean over the global batch, whatever the micro batches hold
            self._accelerator.backward(nats / targets)
            self._trained.collect()
            loss += nats.detach()
        self._trained.restrict()
        norm = self._accelerator.clip_grad_norm_(self._trained.weights.values(), self._settings.clip)
        return Gradient(float(loss) / targets, float(norm))

    def apply(self, rate: float) -> None:
        """Move the weights by the gradient, and forget it.

        Args:
            rate: the schedule's; each group takes its multiple of it.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["multiple"]
        self._optimizer.step()
        self._trained.stepped()
        self._optimizer.zero_grad()

    def drop(self) -> None:
        """Forget the gradient; the weights stay as they are."""
        self._optimizer.zero_grad()
