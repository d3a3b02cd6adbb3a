"""Read the changes that a run made: bits per byte of held-out texts, suites and recall of facts."""

from __future__ import annotations

from pathlib import Path

from cpt.recipe.journal import find_run
from cpt.recipe.reported_runs import reported

SUITE, RECALL = "suite:", "recall:"
"""Beginnings of the names of measures of which more is better: `suite:medical`, `recall:untrained`."""


def changes_of(folder: Path) -> dict[str, float]:
    """Return the change from the base of everything that a finished run measured.

    Held-out texts by name ("domain", "general") in bits per byte, suites and groups of the recall probe in
    shares of right answers.

    Raises:
        CptError: The run has measured nothing, or its results are damaged.
    """
    (run,) = reported([find_run(folder.parent, folder.name)], folder.parent)
    facts = run.facts
    found = {
        name: change
        for name, probe in facts.probes.items()
        if (change := probe.difference.value if probe.difference else probe.permanent) is not None
    }
    if facts.suites is not None:
        found |= {f"{SUITE}{name}": each.difference for name, each in facts.suites.averages.items()}
    return found | {f"{RECALL}{group}": task.difference.value for group, task in facts.recall.items()}


def more_is_better(measure: str) -> bool:
    """Return True for shares of right answers, False for losses."""
    return measure.startswith((SUITE, RECALL))
