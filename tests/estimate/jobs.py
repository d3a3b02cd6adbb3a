"""Jobs on the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cpt.estimate.job import Job, Lengths
from cpt.model_folder.architecture import settings
from cpt.training.optimizers import AdamW


def job(model: Path, *sequences: Lengths, micro_batch: int | None = None, **more: Any) -> Job:
    """A run of one step whose global batch has these sequences."""
    facts: dict[str, Any] = {
        "architecture": settings(model),
        "dtype": torch.bfloat16,
        "optimizer": AdamW(),
        "sequences": sequences,
        "micro_batch": micro_batch or len(sequences),
        "steps": 1,
        "tokens": sum(map(sum, sequences)),
    }
    return Job(**facts | more)
