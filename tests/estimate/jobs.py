"""Jobs on the tiny model."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from cpt.estimate.job import Job, Lengths
from cpt.models.loading import settings
from cpt.training.schedules import Constant
from cpt.training.settings import Settings, TrainingConfig


def job(model: Path, *sequences: Lengths, micro_batch: int | None = None, **more: Any) -> Job:
    """A run of one step whose global batch has these sequences; `more` are settings, or the job's own."""
    settings_of_one = Settings(
        TrainingConfig(schedule=Constant()),
        steps=1,
        micro_batch=micro_batch or len(sequences),
        dtype=torch.bfloat16,
        tokens=sum(map(sum, sequences)),
    )
    own = {each.name for each in fields(Job)}
    of_the_job = {key: more.pop(key) for key in list(more) if key in own}
    facts: dict[str, Any] = {"architecture": settings(model), **of_the_job}
    return Job(settings=settings_of_one.with_changes(**more), sequences=sequences, **facts)
