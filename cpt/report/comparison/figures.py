"""Find the best run by each figure, beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cpt.corpus.recall import GROUPS, recall_key
from cpt.report.comparison.pareto_front import Documents, Estimate, lowest
from cpt.report.comparison.schema import Best, ComparedProbe, RunRow
from cpt.report.facts.monitoring import interval
from cpt.report.schema import Interval, PairedScores, Probe, Task
from cpt.report.summary_text import has_gap

P_GOLD = "p_gold"


class Figure(NamedTuple):
    """A figure by run.

    sign: 1 if lower is better, -1 if higher is better.
    exact: True for counts and times, which have no noise.
    documents: losses by document behind the figure, by run.
    """

    key: str
    label: str
    values: dict[str, Interval]
    sign: int = 1
    exact: bool = False
    documents: Mapping[str, Documents | None] | None = None


def best_by_figure(rows: Sequence[RunRow], changes: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Best]:
    """Return the best run by every figure that at least two runs have and in which some differ.

    Args:
        rows: Runs of the comparison.
        changes: Changes by held-out text and run, of comparable runs.
    """
    return {
        figure.key: Best(figure=figure.label, runs=names, value=figure.values[names[0]].value)
        for figure in figures(rows, changes)
        if len(figure.values) > 1 and len(names := best(figure)) < len(figure.values)
    }


def best(figure: Figure) -> list[str]:
    """Return the best run by a figure, and the runs that differ from it only by noise."""
    directed = {name: value if figure.sign > 0 else turned(value) for name, value in figure.values.items()}
    if not figure.exact:
        found_on = figure.documents or {}
        return lowest({name: Estimate(value, found_on.get(name)) for name, value in directed.items()})
    least = min(value.value for value in directed.values())
    return [name for name, value in directed.items() if value.value == least]


def figures(rows: Sequence[RunRow], changes: Mapping[str, Mapping[str, Estimate]]) -> Iterator[Figure]:
    """Yield every figure, without runs measured on other text. Arguments as in `best_by_figure`."""
    for name, estimates in changes.items():
        values = {run: estimate.interval for run, estimate in estimates.items()}
        found_on = {run: estimate.documents for run, estimate in estimates.items()}
        yield Figure(f"{name}.change", f"{name} text", values, documents=found_on)
        begun = {
            row.name: row.probes[name] for row in rows if name in row.probes and row.probes[name].began_alike
        }
        yield Figure(f"{name}.depth", f"depth of the gap, {name} text", _known(begun, depth))
        yield Figure(f"{name}.area", f"area of the gap, {name} text", _known(begun, area), exact=True)
        yield Figure(f"{name}.permanent", f"left after training, {name} text", _known(begun, left))
        recovered = {run: probe for run, probe in begun.items() if probe.depth is not None}
        recovery = {run: Interval(value=recovery_tokens(probe)) for run, probe in recovered.items()}
        if any(math.isfinite(value.value) for value in recovery.values()):
            yield Figure(f"{name}.recovery", f"recovery, {name} text", recovery, exact=True)
    for suite in dict.fromkeys(name for row in rows if row.suites for name in row.suites.averages):
        yield Figure(f"suite.{suite}", f"suite {suite}", suite_changes(rows, suite), sign=-1)
    for task in dict.fromkeys(name for row in rows for name in row.tasks):
        yield Figure(f"task.{task}", f"task {task}", task_changes(rows, task), sign=-1)
    for group in recall_groups(rows):
        answers, likelihood = recall_changes(rows, group), recall_p_gold_changes(rows, group)
        yield Figure(f"recall.{group}", f"recall of {group} facts", answers, sign=-1)
        yield Figure(f"recall.{group}.{P_GOLD}", f"recall of {group} facts, {P_GOLD}", likelihood, sign=-1)
    speeds = {row.name: Interval(value=row.tokens_per_second) for row in rows if row.tokens_per_second}
    yield Figure("tokens_per_second", "tokens per second", speeds, sign=-1, exact=True)


def depth(probe: Probe) -> Interval | None:
    """Return the largest rise over the base level during training."""
    return interval(probe.depth, probe.depth_error)


def area(probe: Probe) -> Interval | None:
    """Return the rise summed over tokens."""
    return None if probe.area is None else Interval(value=probe.area)


def left(probe: Probe) -> Interval | None:
    """Return the rise that is left at the end of training."""
    training = probe.training
    return interval(training.permanent, training.permanent_error) if training else None


def recovery_tokens(probe: Probe) -> float:
    """Return the tokens until a probe is back at the base level: 0 without a gap, infinite if never."""
    if not has_gap(probe):
        return 0.0
    return math.inf if probe.recovery_tokens is None else float(probe.recovery_tokens)


def task_changes(rows: Sequence[RunRow], task: str) -> dict[str, Interval]:
    """Return the change of a task's score by run."""
    return {
        row.name: row.tasks[task].difference
        for row in rows
        if task in row.tasks and task not in row.other_items
    }


def recall_groups(rows: Sequence[RunRow]) -> list[str]:
    """Return the groups of the recall probe that some run has, in the order of the probe."""
    found = dict.fromkeys(name for row in rows for name in row.recall)
    return sorted(found, key=lambda name: GROUPS.index(name) if name in GROUPS else len(GROUPS))


def recall_changes(rows: Sequence[RunRow], group: str) -> dict[str, Interval]:
    """Return the change of the right answers to a recall group by run."""
    return {run: task.difference for run, task in _recalled(rows, group).items()}


def recall_p_gold_changes(rows: Sequence[RunRow], group: str) -> dict[str, Interval]:
    """Return the change of a recall group's p_gold by run."""
    found = {run: task.p_gold for run, task in _recalled(rows, group).items()}
    return {run: p_gold.difference for run, p_gold in found.items() if p_gold is not None}


def _recalled(rows: Sequence[RunRow], group: str) -> dict[str, Task]:
    return {
        row.name: row.recall[group]
        for row in rows
        if group in row.recall and recall_key(group) not in row.other_items
    }


def suite_changes(rows: Sequence[RunRow], suite: str) -> dict[str, Interval]:
    """Return the change of a suite's macro average by run."""
    return {
        row.name: change_of(row.suites.averages[suite])
        for row in rows
        if row.suites and suite in row.suites.averages and suite not in row.other_items
    }


def change_of(line: PairedScores) -> Interval:
    """Return the change of paired scores as an interval."""
    low, high = line.interval or (None, None)
    return Interval(value=line.difference, low=low, high=high)


def _known(
    probes: Mapping[str, ComparedProbe], figure: Callable[[ComparedProbe], Interval | None]
) -> dict[str, Interval]:
    return {name: value for name, probe in probes.items() if (value := figure(probe)) is not None}


def turned(value: Interval) -> Interval:
    """Return the interval with the opposite sign."""
    low = None if value.high is None else -value.high
    return Interval(value=-value.value, low=low, high=None if value.low is None else -value.low)
