"""Choose a result by one half of the items of tasks, so that the evaluate stage reports the other half."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt.errors import Problem
from cpt.stages.base import Artifact

if TYPE_CHECKING:
    from cpt.monitor.reading import TaskMeasure
    from evals.preparation import PreparedTask
    from evals.registry import Entry

CHOSEN_BY = "chosen_by"
"""Figure of a stage with the tasks that its result was chosen by."""


class ChosenBy(NamedTuple):
    """A task that a result was chosen by.

    Attributes:
        source: Data set, and its part; None for a task of the hub alone.
        data: Origin of the items, as of `evals.preparation.PreparedTask`.
    """

    task: str
    source: str | None
    data: str


def choice_problems(entries: Iterable[Entry], data: str | None, key: Callable[[str], str]) -> list[Problem]:
    """Return the reasons why results cannot be chosen by tasks, as far as files tell.

    Args:
        data: Folder of the tasks' data; the hub if None.
        key: Function that returns the setting that names a task.
    """
    from evals.scorer import half_problems, has_p_gold

    likely = {entry: has_p_gold(entry) for entry in entries}
    problems = [
        Problem(
            f"{entry.task}: it is no choice by likelihood, so it has no p_gold",
            key=key(entry.task),
            hint="Choose by tasks with one right choice each.",
        )
        for entry, has in likely.items()
        if not has
    ]
    if data is None or not Path(data).is_dir():
        return problems
    reasons = half_problems(tuple(entry for entry, has in likely.items() if has), Path(data))
    return problems + [
        Problem(f"{name}: {why}", key=key(name), hint="Choose by tasks with more items.")
        for name, why in reasons.items()
    ]


def chosen_by(measure: TaskMeasure, tasks: Iterable[ChosenBy]) -> dict[str, Any]:
    """Return the figure of a result that was chosen by a measure of tasks, for `artifact.json`."""
    return {
        "measure": measure,
        "tasks": {each.task: {"source": each.source, "data": each.data} for each in tasks},
    }


def tasks_chosen_by(inputs: Iterable[Artifact]) -> list[ChosenBy]:
    """Return the tasks that any of some artifacts was chosen by."""
    found = (artifact.metrics.get(CHOSEN_BY, {}).get("tasks", {}) for artifact in inputs)
    return [ChosenBy(name, task["source"], task["data"]) for tasks in found for name, task in tasks.items()]


def shares_items(prepared: PreparedTask, chosen: Collection[ChosenBy]) -> ChosenBy | None:
    """Return the task with the same questions that a result was chosen by, or None.

    Tasks over the same part of a data set ask the same questions in other forms, as letters or as texts.
    """
    entry = prepared.entry
    same = (
        each
        for each in chosen
        if each.task == entry.task or (entry.source is not None and each.source == entry.source)
    )
    return next(same, None)
