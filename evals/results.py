"""Results of an evaluation: scores by task, the value of every item, macro averages."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from evals.metrics import propagate_errors, task_weights


class Record(BaseModel):
    """Base of all records: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measure(Record):
    """A task's score by a further measure (`evals.measures`): the mean over its items.

    Attributes:
        stderr: Standard error of `score`; None for a single item.
        chance: Score of a model to which all choices are equally likely; None for measures without one.
    """

    score: float
    stderr: float | None
    chance: float | None = None


class Label(Record):
    """Numbers of items of one label: right ones, answers, and answers without the model's prior."""

    gold: int
    predicted: int
    calibrated: int


class Items(Record):
    """Every item of a task, in one order.

    Attributes:
        ids: Short hashes of the items' content: the same item has the same id under every model, and no two
            of a task have the same.
        values: Values that the metric aggregates: a number, or a pair such as [gold, predicted], per item.
        aggregation: Name of the aggregation (mean, f1, …) of `evals.metrics`.
        clusters: Short hash of the text that an item shares with others (the contract of several questions),
            so that errors count it once; None if the items have nothing in common.
        measures: Values of every item by further measures; empty if the task is no choice by likelihood.
    """

    ids: tuple[str, ...]
    values: tuple[float | tuple[float | str, ...], ...]
    aggregation: str = "mean"
    clusters: tuple[str, ...] | None = None
    measures: dict[str, tuple[float, ...]] = Field(default_factory=dict)


class TaskScore(Record):
    """One task's score.

    Attributes:
        n: Number of items scored.
        stderr: Standard error of `score` (`evals.metrics.standard_error`); None for a single item.
        chance: Score of guessing among the choices, where it is known.
        majority: Share of the most frequent gold label; None where answers are no labels.
        others: The task's other metrics, by name.
        version: Version of the task (lm-eval's), so that only equal tasks are compared.
        data: "hub", or the source's name and the hash of its local files.
        measures: Scores by further measures; empty if the task is no choice by likelihood.
        left_out: Number of items of the half that the model was chosen by (`evals.halves`).
        labels: Numbers of items by label; empty if answers are no labels.
    """

    task: str
    suite: str
    group: str
    metric: str
    higher_is_better: bool
    n: int
    score: float
    stderr: float | None
    chance: float | None = None
    majority: float | None = None
    fewshot: int = 0
    version: str = ""
    data: str = "hub"
    others: dict[str, float] = Field(default_factory=dict)
    note: str | None = None
    left_out: int = 0
    measures: dict[str, Measure] = Field(default_factory=dict)
    labels: dict[str, Label] = Field(default_factory=dict)


class Average(Record):
    """Macro average of a suite: the mean over groups of the means over their tasks.

    Attributes:
        stderr: Standard error from the tasks' errors, which are independent; None if a task has none.
        excluded: Tasks that are not averaged, because a lower score is better there.
    """

    score: float
    stderr: float | None
    groups: int
    excluded: tuple[str, ...] = ()


class LeftOut(Record):
    """A task that could not run, with the reason."""

    task: str
    suite: str
    why: str


class Results(Record):
    """One model's evaluation.

    Attributes:
        model: Reference that the user gave.
        fingerprint: Hash of the weights and the tokenizer: the same model has the same one anywhere.
        suites: Level by suite.
        settings: Precision, start token, chat template, seed: all else that the scores depend on.
        versions: Versions of this package and of the libraries that score.
        seconds: Wall time of this run (less than the scores took, if some came from the cache).
    """

    model: str
    fingerprint: str
    suites: dict[str, str]
    settings: dict[str, str | int | bool | None]
    versions: dict[str, str]
    when: str
    seconds: float
    tasks: tuple[TaskScore, ...]
    left_out: tuple[LeftOut, ...] = ()
    averages: dict[str, Average] = Field(default_factory=dict)
    items: dict[str, Items] = Field(default_factory=dict, description="By task; a file of its own on disk.")


def macro_average(tasks: Sequence[TaskScore]) -> Average | None:
    """Compute the macro average of one suite's tasks; None if lower is better in all of them."""
    counted = [task for task in tasks if task.higher_is_better]
    if not counted:
        return None
    groups = [task.group for task in counted]
    shares = task_weights(groups)
    return Average(
        score=float(shares @ [task.score for task in counted]),
        stderr=propagate_errors(shares, [task.stderr for task in counted]),
        groups=len(set(groups)),
        excluded=tuple(task.task for task in tasks if not task.higher_is_better),
    )


def averages(tasks: Sequence[TaskScore]) -> dict[str, Average]:
    """Compute the macro average of every suite, in the order of the tasks."""
    found = {
        suite: macro_average([task for task in tasks if task.suite == suite])
        for suite in dict.fromkeys(task.suite for task in tasks)
    }
    return {suite: average for suite, average in found.items() if average is not None}


def can_combine(earlier: Results, newer: Results) -> bool:
    """Return True if two evaluations are of the same model, made with the same settings and libraries."""
    return all(
        getattr(earlier, field) == getattr(newer, field) for field in ("fingerprint", "settings", "versions")
    )


def combine_results(earlier: Results, newer: Results) -> Results:
    """Combine the suites of two evaluations; a suite or a task that both have is the newer's."""
    tasks = (
        *(each for each in earlier.tasks if each.suite not in newer.suites and each.task not in newer.items),
        *newer.tasks,
    )
    names = {each.task for each in tasks}
    left_out = (each for each in earlier.left_out if each.suite not in newer.suites)
    return newer.model_copy(
        update={
            "suites": {**earlier.suites, **newer.suites},
            "tasks": tasks,
            "left_out": (*(each for each in left_out if each.task not in names), *newer.left_out),
            "averages": averages(tasks),
            "items": {name: each for name, each in {**earlier.items, **newer.items}.items() if name in names},
        }
    )
