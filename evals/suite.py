"""Suites: which tasks make the proof for a domain, with which metric, and how many items at each level."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["smoke", "quick", "full"]
SUITES = Path(__file__).parent / "suites"
TASKS = Path(__file__).parent / "tasks"


class Entry(BaseModel):
    """A task of a suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="Name of the task: lm-eval's own, or a file below evals/tasks.")
    source: str | None = Field(
        default=None, description="Data set in its local form, with the part after a colon; hub only if none."
    )
    metric: str = Field(description="The metric that counts, as the task names it (acc, acc_norm, f1 …).")
    group: str | None = Field(
        default=None,
        description="Tasks of one group count as one in the macro average (the subjects of MMLU); "
        "a task without a group is a group of its own.",
    )
    chance: float | None = Field(default=None, description="Score of guessing, where it is known.")
    fewshot: int | None = Field(default=None, ge=0, description="Examples in the prompt; the task's own if none.")
    smoke: int | None = Field(default=None, gt=0, description="Items at this level; not in the level if none.")
    quick: int | None = Field(default=None, gt=0, description="Items at this level; not in the level if none.")
    note: str | None = Field(default=None, description="What a reader of the score must know.")

    def items(self, level: Level) -> int | None:
        """Most items at a level (a seeded sample of them); None for all."""
        return None if level == "full" else getattr(self, level)

    def belongs(self, level: Level) -> bool:
        """Whether the task is part of the suite at a level."""
        return level == "full" or getattr(self, level) is not None


class Suite(BaseModel):
    """Tasks that together say how good a model is at something."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name on the command line.")
    about: str = Field(description="One sentence: what it measures.")
    tasks: tuple[Entry, ...] = Field(min_length=1, description="Its tasks.")

    def at(self, level: Level) -> tuple[Entry, ...]:
        """The tasks of a level."""
        return tuple(entry for entry in self.tasks if entry.belongs(level))
