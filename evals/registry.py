"""Suites of tasks: their tasks, metrics and sizes at each level, and the suites that a user names."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpt.errors import Problem, UsageError

Level = Literal["smoke", "quick", "full"]
LEVELS: tuple[Level, ...] = get_args(Level)
DEFAULT_LEVEL: Level = "quick"

SEED = 1234
"""Seed of the items that a level takes, and of few-shot examples: lm-eval's own default, so that examples are
those of its command line."""
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
        """Return the most items at a level (a seeded sample of them); None for all."""
        return None if level == "full" else getattr(self, level)

    def belongs(self, level: Level) -> bool:
        """Return True if the task is part of the suite at a level."""
        return level == "full" or getattr(self, level) is not None


class Suite(BaseModel):
    """Tasks that measure one domain together.

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
        return [one for task in tasks for one in _expand_parts(task)]

    @field_validator("tasks")
    @classmethod
    def _different_tasks(cls, tasks: tuple[Entry, ...]) -> tuple[Entry, ...]:
        names = [entry.task for entry in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return tasks

    def at(self, level: Level) -> tuple[Entry, ...]:
        """Return the tasks of a level."""
        return tuple(entry for entry in self.tasks if entry.belongs(level))


def _expand_parts(task: Any) -> Iterator[Any]:
    """Yield the task itself, or one for each of its parts."""
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


@functools.cache
def suites() -> Mapping[str, Suite]:
    """Return the suites of this package, by name."""
    return {name: read_suite(file) for name, file in _files().items()}


@functools.cache
def _files() -> Mapping[str, Path]:
    """Return the files of this package's suites by the suites' names, which are the files' own."""
    return {file.stem: file for file in sorted(SUITES.glob("*.yaml"))}


def read_suite(file: Path) -> Suite:
    """Read a suite from a file.

    Raises:
        UsageError: Names the file and everything that is wrong in it.
    """
    try:
        raw: Any = YAML(typ="safe").load(file)
        return Suite.model_validate(raw)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UsageError(str(Problem(f"cannot be read as YAML: {error}", file=str(file)))) from None
    except ValidationError as error:
        problems = (
            Problem(found["msg"], file=str(file), key=".".join(map(str, found["loc"])) or None)
            for found in error.errors()
        )
        raise UsageError("\n".join(map(str, problems))) from None


def select(wanted: Iterable[str]) -> list[tuple[Suite, Level]]:
    """Return the suites that a user names, with their levels.

    Args:
        wanted: `NAME` or `NAME:LEVEL` each, or a suite file in place of the name. The default level is quick.

    Raises:
        UsageError: Names every suite that does not exist, and what there is instead.
    """
    chosen: list[tuple[Suite, Level]] = []
    problems: list[str] = []
    for text in wanted:
        try:
            chosen.append(_select_one(text))
        except UsageError as error:
            problems.append(str(error))
    names = [suite.name for suite, _ in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"suite `{name}` is named more than once; give each suite one level" for name in twice]
    if problems:
        raise UsageError("\n".join(problems))
    return chosen


def _select_one(text: str) -> tuple[Suite, Level]:
    name, level = _split_level(text)
    known = _files()
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise UsageError(f"there is no suite `{name}`", hint=_suggestion(name, list(known)))
    suite = read_suite(known.get(name, Path(name)))
    if not suite.at(level):
        raise UsageError(
            f"suite `{suite.name}` has no task at level {level}",
            hint=f"Give its tasks `{level}`, the number of items; at level full they have all.",
        )
    return suite, level


def _split_level(text: str) -> tuple[str, Level]:
    name, colon, level = text.rpartition(":")
    if not colon:
        return text, DEFAULT_LEVEL
    for known in LEVELS:
        if level == known:
            return name, known
    raise UsageError(f"`{text}`: there is no level `{level}`", hint=_suggestion(level, LEVELS))


def _suggestion(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word.lower(), known, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    return f"{meant}There are: {', '.join(known)}."
