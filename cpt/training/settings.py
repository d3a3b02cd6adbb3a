"""Define the settings of a training: those that a recipe gives, and those of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cpt.monitor.gates.gate import Gate
from cpt.monitor.probe_work import ProbeWork
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.l2_sp import L2SPConfig
from cpt.training.features.skill_it import SkillItConfig
from cpt.training.features.trackers import TrackerName, Tracking
from cpt.training.features.weight_averaging import AveragingConfig
from cpt.training.objectives import CrossEntropy, Objective
from cpt.training.optimizers import AdamW, Optimizer
from cpt.training.schedules import RewarmCosine, Schedule
from cpt.training.trainable import All, Trainable

if TYPE_CHECKING:
    import torch


_FREE = frozenset({"checkpoint", "trackers", "anomalies", "gradient_sync"})
"""Settings that have no effect on the weights trained so far: a run may continue with others."""

_RESOLVED = frozenset({"precision", "compile"})
"""Settings that `Settings` holds as this machine resolves them."""


class TrainingConfig(BaseModel):
    """Settings of a training that do not depend on its model, its data or the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule = Field(default=RewarmCosine(), description="How the learning rate moves.")
    optimizer: Optimizer = Field(default=AdamW(), description="How gradients move the weights.")
    objective: Objective = Field(default=CrossEntropy(), description="What is minimised.")
    l2_sp: L2SPConfig | None = Field(
        default=None, description="L2-SP: every trained weight decays towards its start; default: none."
    )
    input_noise: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the tokens of the domain's documents in whose place the model reads random "
        'tokens; it still predicts the true ones (D-AR, "Where is the answer?", omron-sinicx, with 0.1). '
        "Study documents, conversations and replay are read as they are.",
    )
    skill_it: SkillItConfig | None = Field(
        default=None,
        description="Online mixing (Skill-It): the weights of the domain's parts follow their losses while "
        "the model trains, from those of `mixture` on; default: they stay as `mixture` says.",
    )
    average: AveragingConfig | None = Field(
        default=None,
        description="An average of the weights passed through, which probes read and which is the result; "
        "default: the last weights.",
    )
    trainable: Trainable = Field(default=All(), description="What of the model trains.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["auto", "bf16", "fp32", "fp8"] = Field(
        default="auto",
        description="Precision of matrix products; auto: bf16 where the hardware has it; fp8: linear layers "
        "in 8 bits (GPUs from compute capability 8.9 on, with torchao).",
    )
    master_weights: Literal["fp32", "stochastic-rounding"] = Field(
        default="fp32",
        description="What the optimizer moves: float32 copies of bf16 weights, or, to save 4 bytes a "
        "parameter, the bf16 weights themselves, with stochastic rounding.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute activations again in the backward pass: less memory, about a quarter slower.",
    )
    gradient_sync: Literal["every", "last"] = Field(
        default="every",
        description="Micro batches of a step after which processes sum their gradients, where weights are "
        "sharded (FSDP2, HSDP). last: once per step, which sends less; each process then holds the whole "
        "gradient in float32, 4 bytes a trained parameter, until the last micro batch.",
    )
    checkpoint: Checkpoints = Field(default=Checkpoints(), description="Checkpoints.")
    gates: tuple[Gate, ...] = Field(
        default=(), description="Limits on what may be forgotten, and what is done when one is at risk."
    )
    anomalies: Anomalies = Field(
        default=Anomalies(), description="What to do about losses that are not finite, and about spikes."
    )
    compile: Literal["auto"] | bool = Field(
        default="auto",
        description="Compile the model's layers (torch.compile), which takes a minute at the start; auto: "
        "on a GPU.",
    )
    trackers: tuple[TrackerName, ...] = Field(
        default=(), description="Where the log goes besides steps.jsonl: TensorBoard, trackio, W&B, MLflow."
    )

    @field_validator("trackers")
    @classmethod
    def _once(cls, trackers: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        twice = sorted({name for name in trackers if trackers.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice")
        return trackers


@dataclass(frozen=True)
class Settings:
    """Settings of one run: those of its training, and what follows from its model, data and machine.

    Attributes:
        config: settings of the training, with the schedule of this run.
        steps: number of optimizer steps.
        micro_batch: number of sequences that go through the model at once.
        dtype: precision in which the model computes; master weights and optimizer state are float32.
        on_gpu: True if the model computes on a GPU, which decides what `compile: auto` means.
        tokens: number of tokens in all steps, by which a schedule in tokens measures progress.
        new_tokens: ids of the tokens that the model's base did not have.
        ordinary_tokens: ids of the tokens that are not special and neither start nor end documents,
            ascending; only input noise needs them.
        seed: seed of random weights that are added to the model, of stochastic rounding and of input noise.
        most_sequences: largest number of sequences that may be read of each source whose weight may change,
            earlier runs included.
        tolerance: rise of a probe above its first reading that still counts as recovered.
        probe_work: work that probes may do; None: all readings that are due are made in full.
        tracking: names of the run in its trackers.
        optimizer_state: file with the optimizer's state that the run begins with; None: it begins afresh.
        stage: name of the stage in the recipe, with which messages about its settings begin.
    """

    config: TrainingConfig
    steps: int
    micro_batch: int
    dtype: torch.dtype
    on_gpu: bool = False
    tokens: int = 0
    new_tokens: Sequence[int] = ()
    ordinary_tokens: Sequence[int] = ()
    seed: int = 0
    most_sequences: Mapping[str, int] = field(default_factory=dict)
    tolerance: float = 0.001
    probe_work: ProbeWork | None = None
    tracking: Tracking = field(default_factory=Tracking)
    optimizer_state: Path | None = None
    stage: str = ""

    @property
    def stochastic_rounding(self) -> bool:
        """True if weights are held in bfloat16 alone, with stochastic rounding."""
        return self.config.master_weights == "stochastic-rounding"

    @property
    def float8(self) -> bool:
        """True if linear layers multiply in 8-bit floating point."""
        return self.config.precision == "fp8"

    @property
    def compiles(self) -> bool:
        """True if the model's layers are compiled."""
        return self.on_gpu if self.config.compile == "auto" else self.config.compile

    def rate(self, step: int, tokens: int, batch_tokens: int) -> float:
        """Return the learning rate of the step that begins after `step` steps and `tokens` tokens.

        Args:
            batch_tokens: number of tokens of that step.
        """
        schedule = self.config.schedule
        if schedule.unit == "tokens":
            return schedule.rate(tokens, self.tokens, batch_tokens)
        return schedule.rate(step, self.steps)

    def with_changes(self, **changes: Any) -> Self:
        """Return settings with other values, each under its name here or in `config`."""
        own = {each.name for each in fields(self)}
        if unknown := changes.keys() - own - type(self.config).model_fields.keys():
            raise TypeError(f"there is no setting {', '.join(sorted(unknown))}")
        config = self.config.model_copy(update={key: changes[key] for key in changes.keys() - own})
        return replace(self, **{"config": config} | {key: changes[key] for key in changes.keys() & own})

    def fixed_values(self) -> dict[str, Any]:
        """Return the settings that a run must continue with, as JSON values by dotted names."""
        values = {name: getattr(self.config, name) for name in TrainingConfig.model_fields}
        fixed = {name: value for name, value in values.items() if name not in _FREE | _RESOLVED}
        own = ("steps", "micro_batch", "dtype", "float8", "tokens", "new_tokens", "seed", "tolerance")
        resolved = {name: getattr(self, name) for name in own} | {"compile": self.compiles}
        return dict(flat_values(fixed | resolved))


def flat_values(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return JSON values by dotted names."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        pairs = [flat_values(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()]
        return [pair for found in pairs for pair in found]
    if isinstance(value, tuple):  # as JSON has it
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    is_json = value is None or isinstance(value, str | int | float | list)
    return [(name, value if is_json else str(value))]
