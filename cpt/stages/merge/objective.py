"""Maximise a measure of tasks in a search for weights: on one half of their items, as one figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cpt.errors import Problem
from cpt.monitor.reading import Items
from cpt.stages.choosing import ChosenBy, choice_problems
from cpt.stages.merge.config import MergeSearch, SearchObjective

if TYPE_CHECKING:
    from cpt.monitor.probes.base import ModelView
    from cpt.monitor.probes.task import TaskProbe
    from evals.registry import Entry

OBJECTIVE = "wrong choices"
"""Name of the figure of an objective, of which less is better: 1 - p_gold, or the share of wrong answers."""

ITEMS = 100
"""Default number of items of a task that is named."""


class ObjectiveTask(NamedTuple):
    """A task of an objective, and the number of items that are read of its half; None: all."""

    entry: Entry
    items: int | None


@dataclass(frozen=True)
class Objective:
    """The mean of a measure over tasks, as what is missing to 1; an item is a question.

    Its error takes the questions of all tasks for one sample, so it also has the differences between tasks.

    Attributes:
        probes: Tasks.
        shares: Weight of each task: every group counts the same, and in it every task.
    """

    probes: Sequence[TaskProbe]
    shares: Sequence[float]

    def read(self, view: ModelView) -> Items:
        """Return one minus the score of every question, weighted."""
        import numpy as np

        readings = [probe.read(view, 1.0) for probe in self.probes]
        factors = [
            share / items.denominators.sum() for share, items in zip(self.shares, readings, strict=True)
        ]
        pairs = list(zip(factors, readings, strict=True))
        missing = [factor * (items.denominators - items.numerators) for factor, items in pairs]
        return Items(
            np.concatenate(missing), np.concatenate([factor * items.denominators for factor, items in pairs])
        )


def objective_tasks(objective: SearchObjective) -> list[ObjectiveTask]:
    """Return the tasks of an objective; those of a suite that are no choice by likelihood do not count.

    Raises:
        UsageError: There is no such suite.
    """
    from evals.registry import select
    from evals.scorer import find_choice_task, has_p_gold

    if objective.suite is None:
        found = (find_choice_task(name) for name in objective.tasks)
        return [ObjectiveTask(entry, objective.items or ITEMS) for entry in found if entry is not None]
    [(suite, level)] = select([objective.suite])
    return [
        ObjectiveTask(entry, objective.items or entry.items(level))
        for entry in suite.at(level)
        if has_p_gold(entry)
    ]


def make_objective(search: MergeSearch, folder: Path, start_token: str | None, seed: int) -> Objective | None:
    """Load the tasks of a search's objective for the tokenizer of a model; None without an objective.

    Args:
        folder: Model folder.
        start_token: Token before every prompt.
        seed: Seed of the items' order.

    Raises:
        StageFailed: A task's data are not available, or its half has too few items.
    """
    from cpt.monitor.schedule import Regular
    from evals.metrics import task_weights
    from evals.scorer import make_scorer

    if search.objective is None:
        return None
    tasks = objective_tasks(search.objective)
    probes = []
    for entry, items in tasks:
        scorer = make_scorer(entry, items, search.data, folder, start_token, seed, "search")
        probes.append(scorer.probe(Regular(1), search.objective.measure))
    shares = task_weights([entry.group or entry.task for entry, _ in tasks]).tolist()
    return Objective(probes, shares)


def objective_problems(search: MergeSearch) -> Iterator[Problem]:
    """Report an objective's tasks that do not exist, or that nothing can be chosen by."""
    from cpt.stages.evaluate.suites import suite_problems
    from cpt.stages.pretrain.probes import task_problems
    from evals.halves import FEWEST

    objective = search.objective
    if objective is None:
        return
    key = "search.objective." + ("tasks" if objective.suite is None else "suite")
    wrong = [] if objective.suite is None else suite_problems([objective.suite], search.data)
    for name in objective.tasks:
        wrong += task_problems(name, search.data)
    yield from (replace(each, key="search.data" if each.key == "data" else key) for each in wrong)
    if objective.suite is not None and wrong:
        return
    tasks = objective_tasks(objective)
    if objective.suite is not None and not tasks:
        yield Problem(f"{objective.suite}: no task is a choice by likelihood", key=key, hint="Name tasks.")
    for entry, items in tasks:
        if items is not None and items < FEWEST:
            message = f"{items} items of {entry.task} are too few to choose by; {FEWEST} are needed"
            yield Problem(message, key=key, hint="Choose a higher level, or set `items`.")
    if objective.suite is not None:
        yield from _lacking_data([entry for entry, _ in tasks], search.data)
    yield from choice_problems([entry for entry, _ in tasks], search.data, lambda _: key)


def _lacking_data(entries: Sequence[Entry], data: str | None) -> Iterator[Problem]:
    """Report the tasks of a suite whose data a folder lacks."""
    from evals.local_data import DataFolder
    from evals.preparation import source_of

    if data is None or not Path(data).is_dir():
        return
    folder = DataFolder(Path(data))
    missing = [
        entry.task
        for entry in entries
        if (source := source_of(entry)) is not None and not folder.find(*source).complete
    ]
    if missing:
        yield Problem(
            f"{data} does not hold the data of {', '.join(missing)}",
            key="search.data",
            hint="Name the tasks that it has data of: `objective: {tasks: [...]}`.",
        )


def chosen_tasks(search: MergeSearch) -> list[ChosenBy]:
    """Return the tasks that a search chooses by, with the origin of their items."""
    from evals.scorer import origin_of

    if search.objective is None:
        return []
    tasks = objective_tasks(search.objective)
    return [ChosenBy(entry.task, entry.source, origin_of(entry, search.data)) for entry, _ in tasks]


def described(objective: SearchObjective) -> str:
    """Return what is maximised, in words: "p_gold of piqa"."""
    return f"{objective.measure} of {objective.suite or ', '.join(objective.tasks)}"
