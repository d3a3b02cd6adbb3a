"""Runs of the loop on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tiny import SENTENCES
from tiny_training import Row, Said

from cpt.models.bits_per_byte import tokenise_text
from cpt.models.packed_model import load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import Probe
from cpt.monitor.probes.new_tokens import NewTokensProbe
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train
from cpt.training.schedules import RewarmCosine
from cpt.training.settings import Settings, TrainingConfig
from cpt.training.state import Result

SETTINGS = Settings(
    TrainingConfig(schedule=RewarmCosine(peak=1e-2, floor=1e-3, warmup=0.3), checkpoint=Checkpoints(every=2)),
    steps=6,
    micro_batch=4,
    dtype=torch.float32,
)


def with_checkpoints(**checkpoint: object) -> Settings:
    """Settings of a run with checkpoints after every second step, or as told."""
    return SETTINGS.with_changes(checkpoint=Checkpoints.model_validate({"every": 2} | checkpoint))


class PlainRun(NamedTuple):
    """A finished run of the tiny model with `SETTINGS`."""

    weights: dict[str, torch.Tensor]
    result: Result
    work: Path


class Batches:
    """A stream of random documents, three of domain and one of replay in every batch."""

    def batch(self, step: int) -> list[Row]:
        generator = np.random.default_rng(step)
        rows = []
        for source in ("domain", "replay", "domain", "domain"):
            lengths = generator.integers(2, 12, size=3)
            tokens = generator.integers(2, 280, size=int(lengths.sum())).astype(np.uint32)
            plain = None if source == "replay" else np.ones(3, dtype=bool)
            rows.append(Row(source=source, tokens=tokens, piece_lengths=lengths, weights=None, plain=plain))
        return rows

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        result = {name: {"sequences": 0, "tokens": 0, "epochs": 0.0} for name in ("domain", "replay")}
        for step in range(steps):
            for row in self.batch(step):
                result[row.source]["sequences"] += 1
                result[row.source]["tokens"] += len(row.tokens)
        return result


def tiny_probes(folder: Path, *steps: int) -> list[Probe]:
    """A probe of a few sentences, read after some steps and at the end."""
    text = tokenise_text(load_tokenizer(folder), SENTENCES, 64, "<s>")
    return [TextProbe("domain", text, AtSteps(steps or (0, 1, 2, 4)))]


def probes_of(settings: Settings, folder: Path) -> list[Probe]:
    """The probe of a few sentences, after one of new tokens if there are any."""
    rows = [NewTokensProbe(settings.new_tokens, AtSteps((0, 2)))] if settings.new_tokens else []
    return [*rows, *tiny_probes(folder)]


def run(
    folder: Path,
    work: Path,
    settings: Settings = SETTINGS,
    die_at: int | None = None,
    stream: Any = None,
    probes: Sequence[Probe] | None = None,
    teacher: Any = None,
) -> tuple[dict[str, torch.Tensor], Result, list[str]]:
    """Train a fresh copy of the tiny model; returns its weights, the result and the messages.

    Args:
        teacher: Folder of a model, or what the objective takes instead.
    """
    model = load_model(folder)
    probes = probes_of(settings, folder) if probes is None else probes
    progress = Said(die_at)
    taught = {"teacher": load_model(teacher) if isinstance(teacher, Path) else teacher}
    result = train(model, stream or Batches(), probes, settings, work, progress, **taught)
    return {name: p.detach().clone() for name, p in model.named_parameters()}, result, progress.messages


def records(work: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (work / "steps.jsonl").read_text().splitlines()]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)
