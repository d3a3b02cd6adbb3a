"""How to train: what the loop is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from cpt.training.optimizers import AdamW
from cpt.training.schedules import Schedule


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
        gradient_checkpointing: compute what is inside a layer again in the backward pass.
        stochastic_rounding: hold weights in bfloat16 alone, rounded by a chance that follows from `seed`.
        float8: multiply in 8-bit floating point.
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
    gradient_checkpointing: bool = False
    stochastic_rounding: bool = False
    float8: bool = False
    seed: int = 0
