"""Runs with gates, of the tiny model: a stream whose replay share changes, probes that forget for sure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import TypeAdapter
from tiny_runs import SETTINGS, Batches
from tiny_training import Row

from cpt.models.packed_model import load_model
from cpt.monitor.gates import Gate
from cpt.monitor.probes.base import ModelView
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import AtSteps, When
from cpt.training.distributed.tensors import whole
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.schedules import Constant

GATE = TypeAdapter(Gate)

MORE = {"limit": "general <= +0.02", "action": "raise-replay", "most": 0.75}
SLOWER = {"limit": "general <= +0.02", "action": "lower-rate", "factor": 0.5, "least": 0.2}
END = {"limit": "general <= +0.06", "action": "stop", "after": 0.1}
BACK = {"limit": "general <= +0.05", "action": "roll-back", "times": 2, "factor": 0.1, "after": 0.1}


STEPS = 24

PLAIN = SETTINGS.with_changes(
    stage="learn",
    steps=STEPS,
    schedule=Constant(peak=1e-3, warmup=0),
    checkpoint=Checkpoints(every=5),
)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def gate(limit: str, action: str, **options: object) -> Gate:
    return GATE.validate_python({"limit": limit, "action": action, **options})


class Phased(Batches):
    """The tiny stream with `rows` replay rows in each batch, by phases."""

    batch_sequences = 4

    def __init__(self, phases: Sequence[tuple[int, int]] = ((0, 1),)) -> None:
        self._phases = list(phases)

    def with_phases(self, phases: Sequence[tuple[int, int]]) -> Phased:
        return Phased(phases)

    def rows(self, step: int) -> Mapping[str, int]:
        replay = [rows for first, rows in self._phases if first <= step][-1]
        return {"domain": self.batch_sequences - replay, "replay": replay}

    def batch(self, step: int) -> list[Row]:
        rows = super().batch(step)
        for number, row in enumerate(rows):
            row.source = "replay" if number < self.rows(step)["replay"] else "domain"
            if row.source == "replay":
                row.tokens = row.tokens[::-1].copy()  # so that the share shows in the weights
        return rows


@dataclass
class Distance:
    """A probe that reads how far the weights are from where they began, through some curve."""

    name: str
    start: Mapping[str, torch.Tensor]
    curve: Callable[[float], float]
    when: When

    kind: ClassVar[Kind] = "text"
    unit: ClassVar[Unit] = "bits per byte"
    divisible: ClassVar[bool] = False
    items: ClassVar[int | None] = None
    work: ClassVar[float] = 1.0
    relative: ClassVar[bool] = False

    def read(self, subject: ModelView, share: float) -> Items:
        now = {name: whole(p.detach()) for name, p in subject.module.model.named_parameters()}
        moved = sum(float((now[name] - p).double().square().sum()) for name, p in self.start.items())
        items = self.curve(moved**0.5) * np.linspace(0.99, 1.01, 40)
        return Items(items, np.ones(40))


def distances(folder: Path, *steps: int, **curves: Callable[[float], float]) -> list[Any]:
    """Probes named after their curves."""
    start = {name: p.detach().clone() for name, p in load_model(folder).named_parameters()}
    return [Distance(name, start, curve, AtSteps(steps)) for name, curve in curves.items()]


def forgetting(folder: Path, every: int = 2, steps: int = 24) -> list[Any]:
    """`general` rises by a tenth of the distance, `domain` falls by as much as that, and less and less.

    `rare`, the distance itself, is read at the start and at the end only.
    """
    at = (0, *range(every, steps, every))
    curves = {"general": lambda d: 1 + 0.1 * d, "domain": lambda d: 2 - np.tanh(0.4 * d)}
    return [*distances(folder, *at, **curves), *distances(folder, 0, rare=lambda d: d)]
