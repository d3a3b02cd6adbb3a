"""When a checkpoint is due, and how long it stays."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cpt.training.data import Stream
    from cpt.training.schedules import Schedule


Kept = Literal["milestone", "pre-anneal", "last"]
"""Why the weights of a step can be started from when the run is finished."""


class Checkpoints(BaseModel):
    """Checkpoints from which a stopped run continues."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(default=50, gt=0, description="Steps between checkpoints.")
    keep: int = Field(
        default=2,
        gt=0,
        description="How many of the newest are kept; with 1, nothing is left when that one is damaged.",
    )
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="Steps between milestones: checkpoints that stay, and that are models in the result. "
        "A run that is finished is not run again for them.",
    )
    mode: Literal["blocking", "async"] = Field(
        default="async",
        description="async: training waits for a copy in memory (12 bytes per trained weight with AdamW), "
        "which is written while it goes on; blocking: it waits until the checkpoint is on the disk. Weights "
        "that are divided among processes (FSDP2) are gathered in the main one's memory in either mode.",
    )


def anneal_begins(schedule: Schedule, steps: int, stream: Stream) -> int | None:
    """Steps of a run before its rate is annealed; None when it is not."""
    if schedule.unit == "steps":
        return schedule.anneal_begins(steps)

    def tokens(step: int) -> int:
        return sum(int(entry["tokens"]) for entry in stream.ledger(step).values())

    begins = schedule.anneal_begins(tokens(steps))
    return None if begins is None else bisect_left(range(steps), begins, key=tokens)


class Policy:
    """Which of a run's steps get a checkpoint, and which of those stay."""

    def __init__(self, config: Checkpoints, steps: int, pre_anneal: int | None = None) -> None:
        self._config, self._steps, self._pre_anneal = config, steps, pre_anneal

    def due(self, step: int) -> bool:
        """Whether a checkpoint is written after `step`; after the last one the model itself is."""
        return 0 < step < self._steps and (step % self._config.every == 0 or self.stays(step) is not None)

    def stays(self, step: int) -> Kept | None:
        """Why the checkpoint of `step` stays, if it does."""
        if step == self._pre_anneal:
            return "pre-anneal"
        every = self._config.keep_every
        return "milestone" if every is not None and step % every == 0 else None
