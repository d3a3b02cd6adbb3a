"""Settings: the rate by steps or by tokens, and the step before the last fall."""

from __future__ import annotations

import dataclasses

import torch

from cpt.training.optimizers import AdamW
from cpt.training.schedules import Infinite, Linear, Wsd
from cpt.training.settings import Settings

SETTINGS = Settings(
    steps=4,
    micro_batch=1,
    schedule=Linear(peak=1.0, warmup=0),
    optimizer=AdamW(),
    clip=1.0,
    dtype=torch.float32,
    probe_at=(),
    checkpoint_every=1,
    keep_checkpoints=1,
    tokens=100,
)


def with_schedule(schedule: Linear | Infinite | Wsd, **more: int) -> Settings:
    return dataclasses.replace(SETTINGS, schedule=schedule, **more)


def test_the_unit_decides_what_progress_is_measured_by() -> None:
    step, tokens, batch_tokens = 1, 60, 20
    assert SETTINGS.rate(step, tokens, batch_tokens) == 1 - 1 / 3
    in_tokens = with_schedule(Linear(peak=1.0, warmup=0, unit="tokens"))
    assert in_tokens.rate(step, tokens, batch_tokens) == 1 - 60 / 80


def test_the_anneal_follows_exactly_one_step() -> None:
    sizes = [9, 11, 10, 8, 12, 10, 10, 10, 11, 9]
    done = [sum(sizes[: step + 1]) for step in range(10)]
    for schedule, expected in [
        (Wsd(decay_share=0.3), [7]),
        (Wsd(decay_share=0.3, unit="tokens"), [7]),
        (Wsd(decay_share=0.35, unit="tokens"), [7]),  # after 65 of 100 tokens: within the seventh step
        (Infinite(anneal_share=0), []),
        (Linear(), []),
    ]:
        settings = with_schedule(schedule, steps=10)
        found = [step + 1 for step in range(10) if settings.anneal_follows(step + 1, done[step], sizes[step])]
        assert found == expected
