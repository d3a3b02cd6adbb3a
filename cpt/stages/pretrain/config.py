"""Settings of the pretrain stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from cpt.monitor.gates.gate import Gate
from cpt.stages.base import StageConfig
from cpt.stages.pretrain.continuation import Start
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.training.anomalies import Anomalies
from cpt.training.averages import Average
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.l2_sp import L2SP
from cpt.training.objectives import CrossEntropy, Objective
from cpt.training.optimizers import AdamW, Optimizer
from cpt.training.schedules import RewarmCosine, Schedule
from cpt.training.trackers import TrackerName
from cpt.training.trainable import All, Trainable

_MORE_THAN_THERE_CAN_BE = 10**15


class PretrainConfig(StageConfig):
    """How the model is trained on."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"checkpoint", "trackers"})
    resumable_fields: ClassVar[frozenset[str]] = frozenset({"anomalies"})
    renamed_keys: ClassVar[Mapping[str, str]] = {
        "trains": "trainable",
        "pull": "l2_sp",
        "master": "master_weights",
        "faults": "anomalies",
        "repeatable": "deterministic",
    }

    start: Start | None = Field(
        default=None,
        description="Continue an earlier pretrain stage from a checkpoint of it.",
    )
    tokens: int | None = Field(
        default=None,
        gt=0,
        description="Tokens to train on, replay included; rounded up to whole steps. Left out: the domain "
        "text is gone through `epochs` times, with the replay that belongs to it.",
    )
    batch_sequences: int = Field(default=8, gt=0, le=1_000_000, description="Sequences of a global batch.")
    micro_batch_sequences: int | None = Field(
        default=None,
        gt=0,
        description="Sequences that go through the model at once; default: the whole batch.",
    )
    replay: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each global batch that is replay text."
    )
    epochs: float = Field(default=1.0, gt=0, description="How often the domain text may be gone through.")
    schedule: Schedule = Field(default=RewarmCosine(), description="How the learning rate moves.")
    optimizer: Optimizer = Field(default=AdamW(), description="How gradients move the weights.")
    objective: Objective = Field(default=CrossEntropy(), description="What is minimised.")
    l2_sp: L2SP | None = Field(
        default=None, description="A pull of every weight that trains towards its start; default: none."
    )
    average: Average | None = Field(
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
        "parameter, the bf16 weights themselves, rounded up or down by chance.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute activations again in the backward pass: less memory, about a quarter slower.",
    )
    monitor: Monitor = Field(default=Monitor(), description="What is measured during training.")
    checkpoint: Checkpoints = Field(default=Checkpoints(), description="Checkpoints.")
    gates: tuple[Gate, ...] = Field(
        default=(), description="Budgets of what may be forgotten, and what is done when one is at risk."
    )
    anomalies: Anomalies = Field(
        default=Anomalies(), description="What to do about losses that are not finite, and about spikes."
    )
    deterministic: bool = Field(
        default=False,
        description="On a GPU, use only algorithms that give the same bits every time, which are slower: a "
        "run that was killed then ends as one that was not, to the bit. On CPUs it does in any case.",
    )
    compile: bool = Field(default=False, description="Compile feed-forward blocks and norms (torch.compile).")
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

    @property
    def planned_schedule(self) -> Schedule:
        """The schedule as far as it is known before the corpus is: with the tokens that are asked for."""
        return self.schedule.for_run(self.batch_sequences, self.most_tokens)

    @property
    def most_tokens(self) -> int:
        """The tokens that are asked for; where they follow from the corpus, more than there can be."""
        return self.tokens or _MORE_THAN_THERE_CAN_BE
