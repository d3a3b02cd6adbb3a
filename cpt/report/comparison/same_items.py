"""Which runs answered the same items of a task or of a suite."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from cpt.report.schema import Facts


def other_items(
    runs: Mapping[str, Facts], fingerprints: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """For each run the tasks and suites of which it answered other items than most runs; the first of equals.

    Where the fingerprint of the items is not known, as of suites, their number tells, and the base's score,
    which is the same on the same items where all runs have one base. A suite's average is of the tasks on
    which some model is above guessing, which may be others in each run: these tasks are compared by name.

    Args:
        fingerprints: of the items, by run and task.
    """
    one_base = len({facts.base for facts in runs.values()}) == 1
    marks: dict[str, dict[str, Hashable]] = {}
    for run, facts in runs.items():
        for name, items, base in _answered(facts):
            marks.setdefault(name, {})[run] = (items, round(base, 9) if one_base else None)
    for name, by_run in marks.items():
        if all(name in fingerprints[run] for run in by_run):
            marks[name] = {run: fingerprints[run][name] for run in by_run}
    found: dict[str, list[str]] = {run: [] for run in runs}
    for name, by_run in marks.items():
        kept = list(by_run.values())
        most = max(kept, key=kept.count)
        for run, mark in by_run.items():
            if mark != most:
                found[run].append(name)
    return found


def _answered(facts: Facts) -> Iterator[tuple[str, Hashable, float]]:
    """Name, what is known of the items, and the base's score of every task and suite."""
    for name, task in facts.tasks.items():
        yield name, (task.metric, task.items), task.before.value
    if facts.suites is not None:
        for name, line in facts.suites.tasks.items():
            yield name, (line.metric, line.n), line.a
        for name, average in facts.suites.averages.items():
            averaged = tuple(task.task for task in facts.suites.by_suite.get(name, ()))
            yield name, (average.tasks, averaged), average.a
