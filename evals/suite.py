"""Suites: which tasks make the proof for a domain, with which metric, and how many items at each level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Level = Literal["smoke", "quick", "full"]
LEVELS: tuple[Level, ...] = get_args(Level)
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
    fewshot: int | None = Field(
        default=None, ge=0, description="Examples in the prompt; the task's own if none."
    )
    smoke: int | None = Field(
        default=None, gt=0, description="Items at this level; not in the level if none."
    )
    quick: int | None = Field(
        default=None, gt=0, description="Items at this level; not in the level if none."
    )
    cluster: str | None = Field(
        default=None,
        description="Column of the items that names what several are about (a contract): errors count "
        "its values, not the items.",
    )
    note: str | None = Field(default=None, description="What a reader of the score must know.")

    def items(self, level: Level) -> int | None:
        """Most items at a level (a seeded sample of them); None for all."""
        return None if level == "full" else getattr(self, level)

    def belongs(self, level: Level) -> bool:
        """Whether the task is part of the suite at a level."""
        return level == "full" or getattr(self, level) is not None


class Suite(BaseModel):
    """Tasks that together say how good a model is at something.

    Tasks that differ in one word are written once, with the words as `parts`: `{part}` in the task's and the
    source's name stands for each of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name on the command line.")
    about: str = Field(description="One sentence: what it measures.")
    tasks: tuple[Entry, ...] = Field(min_length=1, description="Its tasks.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _every_part(cls, tasks: Any) -> Any:
        if not isinstance(tasks, (list, tuple)):
            return tasks
        return [one for task in tasks for one in _parts(task)]

    @field_validator("tasks")
    @classmethod
    def _different_tasks(cls, tasks: tuple[Entry, ...]) -> tuple[Entry, ...]:
        names = [entry.task for entry in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return tasks

    def at(self, level: Level) -> tuple[Entry, ...]:
        """The tasks of a level."""
        return tuple(entry for entry in self.tasks if entry.belongs(level))


def _parts(task: Any) -> Iterator[Any]:
    """The task itself, or one for each of its parts."""
    if not isinstance(task, Mapping) or "parts" not in task:
        yield task
        return
    fields = {key: value for key, value in task.items() if key != "parts"}
    if not isinstance(task["parts"], (list, tuple)) or not task["parts"]:
        raise ValueError("`parts` must be a list of words")
    for part in task["parts"]:
        named = {
            key: str(fields[key]).replace("{part}", str(part)) for key in ("task", "source") if key in fields
        }
        yield {**fields, **named}
