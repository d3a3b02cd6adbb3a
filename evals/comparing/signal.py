"""Find the tasks with a signal: those on which the models do better than guessing.

A model that guesses moves by chance alone. Averaged in, such tasks hide what changed; tested, they make every
other verdict harder to reach. They are listed with their scores, and counted nowhere.

The null hypothesis is that neither model is above guessing. It is tested by the mean of both models' scores,
which must exceed guessing by `ERRORS` standard errors. That mean stays the same when the models exchange
answers to an item, so that the choice of tasks is independent of what the comparison tests: it favours
neither model and no size of difference. The better of the two scores would favour neither model either, but
it favours large differences: of tasks on which both guess, it keeps those on which luck set the models apart.
Among forty such tasks of 200 items a false verdict then occurs in 24 of 100 comparisons, with the mean in 2.

A model that has lost a task altogether (it writes no label any more) is so far below guessing that the mean
is too, and the largest losses would be counted nowhere. One model above guessing beyond doubt, by `ALONE`
standard errors, is therefore enough. Luck is not: simulated comparisons of forty tasks on which both guess,
of 20, 50 and 200 items, have the same false verdicts with this rule as without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.comparing.paired_tasks import Difference, PairedTask
from evals.metrics import aggregate, propagate_errors, standard_error, task_weights

ERRORS = 2.0
"""Standard errors above guessing that make a signal: a one-sided level of 2.3%."""

ALONE = 4.0
"""Standard errors above guessing at which one model's score is enough."""

_LABELS = (
    "f1",
    "mean_f1",
    "macro_f1",
    "weighted_f1",
    "mean_weighted_f1",
    "accuracy_and_f1",
    "f1_and_mcc",
    "balanced_accuracy",
    "matthews_corrcoef",
)
"""Aggregations of (…, gold label, predicted label)."""


def guessing(task: PairedTask) -> float | None:
    """Return the best score that needs no understanding; None where nothing is known to be right by chance.

    It is the chance of choosing right or, where answers are labels, the score of one label for everything on
    these items: for accuracy the majority's share.
    """
    known = [score for score in (task.a.chance, task.a.majority) if score]
    constant = _constant(task)
    return max(known if constant is None else [*known, constant], default=None)


def _constant(task: PairedTask) -> float | None:
    """Return the best score of one label for everything."""
    if task.aggregation not in _LABELS:
        return None
    values = [value for value in task.first if isinstance(value, tuple)]
    labels = dict.fromkeys(value[-2] for value in values)
    return max(aggregate(task.aggregation, [(*value[:-1], label) for value in values]) for label in labels)


def have_signal(tasks: Sequence[PairedTask], differences: Sequence[Difference]) -> list[bool]:
    """Return True for each task with a signal; a task in which lower is better always has one.

    Tasks of a group with one metric and one level of guessing are one measure in many parts (the subjects of
    MMLU, five items each). They are tested together, and stay or go together.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for place, task in enumerate(tasks):
        if task.a.higher_is_better:
            kind = task.a.suite, task.a.group, task.a.metric, task.a.chance
            kinds.setdefault(kind, []).append(place)
    kept = [True] * len(tasks)
    for places in kinds.values():
        has_signal = _above([tasks[place] for place in places], [differences[place] for place in places])
        for place in places:
            kept[place] = has_signal
    return kept


def _above(tasks: Sequence[PairedTask], differences: Sequence[Difference]) -> bool:
    levels = [guessing(task) for task in tasks]
    if all(level is None for level in levels):  # nothing is right by chance: any right answer is a signal
        return any(found.a != 0 or found.b != 0 for found in differences)
    known = np.array([level or 0.0 for level in levels])
    shares = task_weights(["one"] * len(tasks))

    def above(scores: Sequence[float], errors: Sequence[float | None], wanted: float) -> bool:
        return float(shares @ (np.array(scores) - known)) > wanted * (propagate_errors(shares, errors) or 0.0)

    both = [(found.a + found.b) / 2 for found in differences]
    of_both = [_error_of_both(task, found) for task, found in zip(tasks, differences, strict=True)]
    of_a, of_b = ([found.a_stderr for found in differences], [found.b_stderr for found in differences])
    return (
        above(both, of_both, ERRORS)
        or above([found.a for found in differences], of_a, ALONE)
        or above([found.b for found in differences], of_b, ALONE)
    )


def _error_of_both(task: PairedTask, found: Difference) -> float | None:
    """Return the standard error of the mean of two models' scores; at most the mean of their errors."""
    if task.aggregation == "mean":
        sums = [(one + other) / 2 for one, other in zip(task.first, task.second, strict=True)]  # type: ignore[operator]
        return standard_error("mean", sums, task.clusters)
    if found.a_stderr is None or found.b_stderr is None:
        return None
    return (found.a_stderr + found.b_stderr) / 2
