"""Results of one model's suites that were evaluated one after the other, as one."""

from __future__ import annotations

from evals.comparing.averages import averages
from evals.results import Results


def belong_together(earlier: Results, newer: Results) -> bool:
    """Whether two evaluations are of the same model, made with the same settings and libraries."""
    return all(
        getattr(earlier, what) == getattr(newer, what) for what in ("fingerprint", "settings", "versions")
    )


def join(earlier: Results, newer: Results) -> Results:
    """One evaluation of all suites of two; a suite or a task that both have is the newer's."""
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
