"""Find the finished runs of a sweep, for commands that take runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpt.errors import CptError
from cpt.recipe.journal import Run, find_run
from cpt.sweep.state import FILE, SweepFile, Trial, read_sweep


@dataclass(frozen=True)
class FinishedRuns:
    """The runs of a sweep.

    Attributes:
        runs: Runs with a result that vary the settings of the last command, in the order of the sweep.
        left_out: Reason why a run is none of these, by its name.
    """

    runs: tuple[Run, ...]
    left_out: Mapping[str, str]


def sweep_folder(root: Path, name: str) -> Path | None:
    """Return the folder of a sweep by its name under `root` or by its path; None if it is no sweep."""
    return next((folder for folder in (root / name, Path(name)) if (folder / FILE).is_file()), None)


def finished_runs(folder: Path) -> FinishedRuns:
    """Return the runs of a sweep, which are beside its folder.

    Raises:
        DamagedFile: The sweep's state is damaged.
    """
    file = read_sweep(folder)
    found: list[Run] = []
    left_out: dict[str, str] = {}
    for trial in file.trials:
        if reason := _reason(trial, file):
            left_out[trial.run] = reason
            continue
        try:
            found.append(find_run(folder.absolute().parent, trial.run))
        except CptError as error:
            left_out[trial.run] = error.message
    return FinishedRuns(tuple(found), left_out)


def _reason(trial: Trial, file: SweepFile) -> str:
    """Return why a trial is left out; empty if it is not.

    The file keeps trials of earlier commands. Those that varied other settings have the recipe's value of a
    setting that the others vary, or vary one that is the same in the others.
    """
    varied = {factor.key for factor in file.request.factors}
    if trial.values.keys() != varied:
        keys = " and ".join(f"`{key}`" for key in trial.values)
        return f"it is of an earlier command, which varied {keys}"
    if trial.state == "done":
        return ""
    if trial.state == "failed":
        return f"it failed: {trial.message}"
    if trial.state == "left out":
        return f"it was left out: {file.left_out}" if file.left_out else "it was left out"
    return "it has not ended" if trial.state == "running" else "it has not begun, or its recipe has changed"
