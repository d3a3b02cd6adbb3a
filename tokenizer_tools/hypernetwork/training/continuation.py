"""Continue a finished run: its folder holds its last checkpoint, which a longer run begins with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cpt.atomic import atomic_folder
from cpt.errors import Problem
from cpt.training.checkpoint.store import Store
from tokenizer_tools.hypernetwork.reference import CHECKPOINT, STATE, STEPS


def keep_checkpoint(work: Path, step: int, folder: Path) -> None:
    """Copy the log and the checkpoint of a run's last step into the folder of its hypernetwork."""
    shutil.copyfile(work / STEPS, folder / STEPS)
    shutil.copytree(Store(work, 1).path(step), folder / CHECKPOINT)


def start_problem(folder: Path) -> Problem | None:
    """Return the problem of a folder whose run cannot be continued."""
    if (folder / CHECKPOINT / STATE).is_file() and (folder / STEPS).is_file():
        return None
    return Problem(
        f"{folder} holds no checkpoint of a hypernetwork's training",
        key="start",
        hint="Give the folder `hypernetwork` of a finished stage.",
    )


def begin_from(folder: Path, work: Path) -> None:
    """Copy log and checkpoint of a finished run into a work folder, unless that has a checkpoint already."""
    store = Store(work, 1)
    if store.steps():
        return
    shutil.copyfile(folder / STEPS, work / STEPS)
    step = json.loads((folder / CHECKPOINT / STATE).read_text())["step"]
    with atomic_folder(store.path(step)) as scratch:
        shutil.copytree(folder / CHECKPOINT, scratch, dirs_exist_ok=True)
