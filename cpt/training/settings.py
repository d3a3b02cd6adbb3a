"""How to train: what the loop is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from pydantic import BaseModel

from cpt.errors import StageFailed
from cpt.monitor.budget import ProbeBudget
from cpt.monitor.gates import Gate
from cpt.training.anomalies import Anomalies
from cpt.training.averages import Average
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.l2_sp import L2SP
from cpt.training.objectives import CrossEntropy, Objective
from cpt.training.optimizers import Optimizer
from cpt.training.schedules import Schedule
from cpt.training.trackers import Tracking
from cpt.training.trainable import All, Trainable

_EVERYTHING, _CROSS_ENTROPY = All(), CrossEntropy()

_FREE = frozenset({"checkpoint", "trackers", "anomalies", "allowance", "stage"})
"""Settings that do not bear on the weights trained so far: a run may go on with others."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: optimizer steps.
        micro_batch: sequences that go through the model at once.
        clip: largest norm of the gradient.
        dtype: precision in which the model computes; master weights and optimizer state are float32.
        checkpoint: when checkpoints are written, how, and how long they are kept.
        anomalies: what to do when a loss is not finite, or jumps.
        compile: compile the parts of the layers whose shapes do not depend on the documents.
        tokens: of the whole run; what a schedule in tokens measures progress by.
        trackers: where else the log goes.
        trainable: what of the model trains.
        new_tokens: ids of the tokens that the model's base did not have.
        seed: of random weights that are added to the model.
        gradient_checkpointing: compute what is inside a layer again in the backward pass.
        stochastic_rounding: hold weights in bfloat16 alone, rounded by a chance that follows from `seed`.
        float8: multiply in 8-bit floating point.
        gates: budgets, and what is done about them.
        tolerance: how much worse than before training a probe may be and still count as recovered.
        objective: what is minimised.
        l2_sp: of every trained weight towards its start.
        average: of the weights passed through, which is then the result.
        allowance: of work for probes; without one all that are due are read in full.
        stage: name of the stage in the recipe, which messages about its settings begin with.
    """

    steps: int
    micro_batch: int
    schedule: Schedule
    optimizer: Optimizer
    clip: float
    dtype: torch.dtype
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    anomalies: Anomalies = field(default_factory=Anomalies)
    compile: bool = False
    tokens: int = 0
    trackers: Tracking = field(default_factory=Tracking)
    trainable: Trainable = _EVERYTHING
    new_tokens: Sequence[int] = ()
    seed: int = 0
    gradient_checkpointing: bool = False
    stochastic_rounding: bool = False
    float8: bool = False
    gates: tuple[Gate, ...] = ()
    tolerance: float = 0.001
    objective: Objective = _CROSS_ENTROPY
    l2_sp: L2SP | None = None
    average: Average | None = None
    allowance: ProbeBudget | None = None
    stage: str = ""

    def rate(self, step: int, tokens: int, batch_tokens: int) -> float:
        """Learning rate of the step that begins after `step` steps and `tokens` tokens.

        Args:
            batch_tokens: tokens of that step.
        """
        if self.schedule.unit == "tokens":
            return self.schedule.rate(tokens, self.tokens, batch_tokens)
        return self.schedule.rate(step, self.steps)


class FixedSettings:
    """The settings that a run must go on with, as a part of its checkpoints."""

    def __init__(self, settings: Settings) -> None:
        chosen = {each.name: getattr(settings, each.name) for each in fields(settings)}
        self._settings = dict(_flat({name: value for name, value in chosen.items() if name not in _FREE}))

    def state(self) -> Mapping[str, Any]:
        return self._settings

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Change nothing, but raise if the run began with other settings."""
        keys = dict.fromkeys([*saved, *self._settings])
        now = self._settings
        changed = [
            f"{key} was {saved.get(key, 'not set')} and is {now.get(key, 'not set')}"
            for key in keys
            if saved.get(key) != now.get(key)
        ]
        if changed:
            raise StageFailed(
                f"a run cannot go on with other settings than it began with: {'; '.join(changed)}",
                hint="Set them back, or train in an empty work folder. Another schedule on trained weights "
                "is a new run that starts from a checkpoint.",
            )


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """JSON values by dotted names."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        pairs = [_flat(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()]
        return [pair for found in pairs for pair in found]
    if isinstance(value, tuple):  # as JSON has it
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    return [(name, str(value) if isinstance(value, torch.dtype) else value)]
