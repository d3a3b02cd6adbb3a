"""Continue a finished run: its folder holds its last checkpoint, which a longer run begins with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from cpt.atomic import atomic_folder
from cpt.errors import Problem
from cpt.json_file import read_json
from cpt.training.checkpoint.store import Store
from tokenizer_tools.hypernetwork.reference import CHECKPOINT, STATE, STEPS


def keep_checkpoint(work: Path, step: int, folder: Path) -> None:
    """Copy the log and the checkpoint of a run's last step into the folder of its hypernetwork."""
    shutil.copyfile(work / STEPS, folder / STEPS)
    shutil.copytree(Store(work, 1).path(step), folder / CHECKPOINT)


def start_problem(folder: Path, steps: int) -> Problem | None:
    """Return the problem of a folder whose run cannot be continued.

    Args:
        folder: Folder of a hypernetwork.
        steps: Number of steps of the run that continues it, of both stages.
    """
    if not ((folder / CHECKPOINT / STATE).is_file() and (folder / STEPS).is_file()):
        return Problem(
            f"{folder} holds no checkpoint of a hypernetwork's training",
            key="start",
            hint="Give the folder `hypernetwork` of a finished stage.",
        )
    taken = _step(folder)
    if taken < steps:
        return None
    return Problem(
        f"{folder} has taken {taken:,} steps, so that none of {steps:,} is left",
        key="steps",
        hint="`steps` counts from the beginning, those before included: raise it.",
    )


def begin_from(folder: Path, work: Path) -> None:
    """Copy log and checkpoint of a finished run into a work folder, unless that has a checkpoint already."""
    store = Store(work, 1)
    if store.steps():
        return
    shutil.copyfile(folder / STEPS, work / STEPS)
    with atomic_folder(store.path(_step(folder))) as scratch:
        shutil.copytree(folder / CHECKPOINT, scratch, dirs_exist_ok=True)


def _step(folder: Path) -> int:
    """Return the step of the checkpoint in a hypernetwork's folder.

    Raises:
        DamagedFile: Its state cannot be read.
    """
    return int(read_json(folder / CHECKPOINT / STATE, dict[str, Any])["step"])
