"""Settings of the pretrain stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from cpt.stages.base import StageConfig
from cpt.stages.pretrain.continuation import Start
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.training.schedules import Schedule
from cpt.training.settings import TrainingConfig

_MORE_THAN_THERE_CAN_BE = 10**15


class PretrainConfig(TrainingConfig, StageConfig):
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
    monitor: Monitor = Field(default=Monitor(), description="What is measured during training.")
    deterministic: bool = Field(
        default=False,
        description="On a GPU, use only algorithms that give the same bits every time, which are slower: a "
        "run that was killed then ends as one that was not, to the bit. On CPUs it does in any case.",
    )

    def for_tokens(self, tokens: int) -> Self:
        """Return the same settings with the schedule of a run of so many tokens."""
        return self.model_copy(update={"schedule": self.schedule.for_run(self.batch_sequences, tokens)})

    @property
    def planned_schedule(self) -> Schedule:
        """Schedule as far as it is known before the corpus is: with the tokens that are asked for."""
        return self.for_tokens(self.most_tokens).schedule

    @property
    def most_tokens(self) -> int:
        """Number of tokens that are asked for; if it follows from the corpus, more than there can be."""
        return self.tokens or _MORE_THAN_THERE_CAN_BE
