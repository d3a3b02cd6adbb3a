"""Which tasks of two evaluations can be compared, and on which items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cpt.errors import UsageError
from evals.comparing.resampling import Value
from evals.results import Frozen, Results, TaskScore

_SAME = {
    "metric": "metric",
    "version": "version of the task",
    "data": "data",
    "fewshot": "examples in the prompt",
    "higher_is_better": "direction of the metric",
}
"""What must be the same for two scores of a task to be comparable."""


class NotCompared(Frozen):
    """A task that only one of the evaluations has, or that they ran differently."""

    task: str
    suite: str
    why: str


@dataclass(frozen=True)
class Matched:
    """A task with its items that both evaluations have, in one order.

    Attributes:
        first, second: [items] values under each model.
        clusters: [items] what an item shares with others, if anything.
        only_a, only_b: items that the other evaluation lacks.
    """

    a: TaskScore
    b: TaskScore
    aggregation: str
    first: list[Value]
    second: list[Value]
    clusters: list[str] | None
    only_a: int
    only_b: int


def check_settings(a: Results, b: Results) -> None:
    """Refuse evaluations whose settings differ: the difference would be that of the settings too."""
    names = sorted({*a.settings, *b.settings})
    different = [
        f"{name}: {a.settings.get(name)} against {b.settings.get(name)}"
        for name in names
        if a.settings.get(name) != b.settings.get(name)
    ]
    if different:
        raise UsageError(
            f"{a.model} and {b.model} were evaluated with different settings: {'; '.join(different)}",
            hint="Evaluate both with the same settings.",
        )


def match(a: Results, b: Results) -> tuple[list[Matched], list[NotCompared]]:
    """Tasks of both evaluations item by item, and those that cannot be compared."""
    tasks_a, tasks_b = ({(task.suite, task.task): task for task in side.tasks} for side in (a, b))
    matched, apart = [], []
    for suite, name in dict.fromkeys([*tasks_a, *tasks_b]):
        one, other = tasks_a.get((suite, name)), tasks_b.get((suite, name))
        if one is None or other is None:
            why = _missing(a if one is None else b, suite, name)
        elif different := list(_differences(one, other)):
            why = "; ".join(different)
        elif name not in a.items or name not in b.items:
            why = "the values of its items were not kept"
        elif found := _on_common_items(one, other, a, b):
            matched.append(found)
            continue
        else:
            why = "the evaluations have no item in common"
        apart.append(NotCompared(task=name, suite=suite, why=why))
    return matched, apart


def _missing(side: Results, suite: str, name: str) -> str:
    reasons = [left.why for left in side.left_out if (left.suite, left.task) == (suite, name)]
    return f"not evaluated for {side.model}" + (f": {reasons[0]}" if reasons else "")


def _differences(one: TaskScore, other: TaskScore) -> Iterator[str]:
    for field, title in _SAME.items():
        values = getattr(one, field), getattr(other, field)
        if values[0] != values[1]:
            yield f"{title} differs: {values[0]} against {values[1]}"


def _on_common_items(one: TaskScore, other: TaskScore, a: Results, b: Results) -> Matched | None:
    items_a, items_b = a.items[one.task], b.items[one.task]
    place_b = {item: place for place, item in enumerate(items_b.ids)}
    common = [(place, place_b[item]) for place, item in enumerate(items_a.ids) if item in place_b]
    if not common:
        return None
    return Matched(
        a=one,
        b=other,
        aggregation=items_a.aggregation,
        first=[items_a.values[place] for place, _ in common],
        second=[items_b.values[place] for _, place in common],
        clusters=None if items_a.clusters is None else [items_a.clusters[place] for place, _ in common],
        only_a=len(items_a.ids) - len(common),
        only_b=len(items_b.ids) - len(common),
    )
