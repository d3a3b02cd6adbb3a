"""When a checkpoint is due, and how long it stays."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field


class Checkpoints(BaseModel):
    """Checkpoints from which a stopped run continues."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(default=50, gt=0, description="Steps between checkpoints.")
    keep: int = Field(default=1, gt=0, description="How many of the newest are kept.")
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="Steps between milestones: checkpoints that stay, and that are models in the result. "
        "A run that is finished is not run again for them.",
    )
    mode: Literal["blocking", "async"] = Field(
        default="async",
        description="async: training waits for a copy in memory (12 bytes per trained weight with AdamW), "
        "which is written while it goes on; blocking: it waits until the checkpoint is on the disk.",
    )


@runtime_checkable
class Annealing(Protocol):
    """A schedule whose rate is annealed at the end, so that a later run continues from before that."""

    def anneal_begins(self, steps: int) -> int | None:
        """Steps of `steps` taken before the rate is annealed; None when it is not."""


class Policy:
    """Which of a run's steps get a checkpoint, and which of those stay."""

    def __init__(self, config: Checkpoints, schedule: object, steps: int) -> None:
        self._config, self._steps = config, steps
        self.pre_anneal = schedule.anneal_begins(steps) if isinstance(schedule, Annealing) else None

    def due(self, step: int) -> bool:
        """Whether a checkpoint is written after `step`; after the last one the model itself is."""
        return 0 < step < self._steps and (step % self._config.every == 0 or self.stays(step))

    def stays(self, step: int) -> bool:
        """Whether the checkpoint of `step` is a milestone, or the one before annealing."""
        every = self._config.keep_every
        return step == self.pre_anneal or (every is not None and step % every == 0)
