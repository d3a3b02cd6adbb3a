"""How to train: what the loop is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from cpt.training.optimizers import AdamW
from cpt.training.schedules import Schedule
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
        trains: what of the model trains.
        new_tokens: ids of the tokens that the model's base did not have.
        seed: of random weights that are added to the model.
    """

    steps: int
    micro_batch: int
    schedule: Schedule
    optimizer: AdamW
    clip: float
    dtype: torch.dtype
    probe_at: Collection[int]
    checkpoint_every: int
    keep_checkpoints: int
    compile: bool = False
    trains: Trains = _EVERYTHING
    new_tokens: Sequence[int] = ()
    seed: int = 0
