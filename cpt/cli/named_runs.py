"""Find the runs that a command line names: one, or the finished ones of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpt.cli.output import err
from cpt.errors import UsageError
from cpt.recipe.journal import Run, find_run


def named_runs(root: Path, name: str) -> Sequence[Run]:
    """Return a run, or the finished runs of a sweep.

    Runs of a sweep that have no result, or vary other settings, are named on standard error.

    Raises:
        UsageError: There is no such run, or no run of the sweep has finished.
        DamagedFile: The run or the sweep is damaged.
    """
    from cpt.sweep.finished import finished_runs, sweep_folder

    folder = sweep_folder(root, name)
    if folder is None:
        return [find_run(root, name)]
    sweep = finished_runs(folder)
    for run, reason in sweep.left_out.items():
        err().print(f"{run} is left out: {reason}", soft_wrap=True)
    if not sweep.runs:
        raise UsageError(
            f"no run of the last command of the sweep `{name}` has finished", hint="Run it: cpt sweep."
        )
    return sweep.runs
