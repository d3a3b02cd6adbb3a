"""Settings: the rate by steps or by tokens."""

from __future__ import annotations

import torch

from cpt.training.schedules import Linear
from cpt.training.settings import Settings, TrainingConfig

SETTINGS = Settings(
    TrainingConfig(schedule=Linear(peak=1.0, warmup=0)),
    steps=4,
    micro_batch=1,
    dtype=torch.float32,
    tokens=100,
)


def test_the_unit_decides_what_progress_is_measured_by() -> None:
    step, tokens, batch_tokens = 1, 60, 20
    assert SETTINGS.rate(step, tokens, batch_tokens) == 1 - 1 / 3
    in_tokens = SETTINGS.with_changes(schedule=Linear(peak=1.0, warmup=0, unit="tokens"))
    assert in_tokens.rate(step, tokens, batch_tokens) == 1 - 60 / 80
