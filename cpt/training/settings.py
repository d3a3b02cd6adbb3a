"""How to train: what the loop is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from cpt.training.optimizers import Optimizer
from cpt.training.schedules import Schedule
from cpt.training.trackers import Tracking
from cpt.training.trains import All, Trains

_EVERYTHING = All()


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: optimizer steps.
        micro_batch: sequences that go through the model at once.
        clip: largest norm of the gradient.
        dtype: precision in which the model computes; master weights and optimizer state are float32.
        probe_at: steps after which probes are read; 0 is before the first.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the newest are kept.
        compile: compile the parts of the layers whose shapes do not depend on the documents.
        tokens: of the whole run; what a schedule in tokens measures progress by.
        trackers: where else the log goes.
        trains: what of the model trains.
        new_tokens: ids of the tokens that the model's base did not have.
        seed: of random weights that are added to the model.
    """

    steps: int
    micro_batch: int
    schedule: Schedule
    optimizer: Optimizer
    clip: float
    dtype: torch.dtype
    probe_at: Collection[int]
    checkpoint_every: int
    keep_checkpoints: int
    compile: bool = False
    tokens: int = 0
    trackers: Tracking = field(default_factory=Tracking)
    trains: Trains = _EVERYTHING
    new_tokens: Sequence[int] = ()
    seed: int = 0

    def rate(self, step: int, tokens: int, batch_tokens: int) -> float:
        """Learning rate of the step that begins after `step` steps and `tokens` tokens.

        Args:
            batch_tokens: tokens of that step.
        """
        if self.schedule.unit == "tokens":
            return self.schedule.rate(tokens, self.tokens, batch_tokens)
        return self.schedule.rate(step, self.steps)

    def anneal_follows(self, step: int, tokens: int, batch_tokens: int) -> bool:
        """Whether the schedule's last fall begins with the next step: then a checkpoint lets runs continue.

        Args:
            step, tokens: done so far.
            batch_tokens: tokens of the step just taken.
        """
        in_tokens = self.schedule.unit == "tokens"
        done, total, size = (tokens, self.tokens, batch_tokens) if in_tokens else (step, self.steps, 1)
        begins = self.schedule.anneal_begins(total)
        return begins is not None and done - size < begins <= done
