"""Store checkpoints on the disk: write, checksum and rename them; read one only if every file is whole.

A checkpoint is a folder:

checkpoint.json            size and SHA-256 of every other file
state.json                 JSON data of all objects with state
<name>.safetensors         tensors of one of them
last-good/…                the same for the snapshot that an anomaly rolls back to, if it is older

That of sharded weights has other files of tensors (`shards.py`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cpt.atomic import atomic_folder
from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint.manifest import (
    Unreadable,
    facts_of,
    is_full,
    read_manifest,
    verify,
    write_manifest,
)
from cpt.training.checkpoint.shards import INDEX, OneProcess, Processes, read_index, write_shards
from cpt.training.checkpoint.snapshot import STATE, Snapshot
from cpt.training.checkpoint.stateful import WeightState
from cpt.training.checkpoint.stored import TENSORS, file_opener, load_like, whole_tensors
from cpt.training.optimizers.groups import NEW_ROWS

LAST_GOOD = "last-good"


def write(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Write a checkpoint to a folder that does not exist; after a failure nothing is left of it.

    Args:
        snapshots: snapshots by subfolder, "" for the folder itself; their tensors are whole.

    Raises:
        DiskFull: the disk is full after all.
    """
    try:
        with atomic_folder(folder) as scratch:
            for place, snapshot in snapshots.items():
                _write_snapshot(scratch / place, snapshot)
            files = [path for path in sorted(scratch.rglob("*")) if path.is_file()]
            write_manifest(scratch, {path.relative_to(scratch).as_posix(): facts_of(path) for path in files})
    except BaseException as error:
        if is_full(error):
            size = sum(snapshot.bytes for snapshot in snapshots.values())
            raise DiskFull(folder.parent, size, shutil.disk_usage(folder.parent).free) from None
        raise


def _write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    snapshot.write_data(folder)
    for name, tensors in snapshot.tensors.items():
        save_file({key: t.contiguous() for key, t in tensors.items()}, folder / f"{name}{TENSORS}")


def read(folder: Path, processes: Processes | None = None) -> dict[str, Snapshot]:
    """Return the snapshots of a checkpoint, by subfolder. Their tensors are on the disk.

    Args:
        processes: processes that verify the files together, and all call this; by default this one alone.

    Raises:
        Unreadable: a file is missing, cut off or changed.
        StageFailed: the system refuses to read a file, which may be whole.
    """
    processes = processes or OneProcess()
    damaged, refused = _damage(folder, processes.rank, processes.count)
    told = processes.gather((damaged, refused))
    for _, reason in told:
        if reason is not None:
            raise StageFailed(
                f"the checkpoint {folder} cannot be read: {reason}",
                hint="Run again when it can be read. If it is lost, remove this folder: the run then "
                "continues from the checkpoint before.",
            )
    for reason, _ in told:
        if reason is not None:
            raise Unreadable(reason)
    places = ["", *([LAST_GOOD] if (folder / LAST_GOOD).is_dir() else [])]
    return {place: _read_snapshot(folder / place) for place in places}


def _damage(folder: Path, rank: int, count: int) -> tuple[str | None, str | None]:
    """Verify one process's share of a checkpoint's files.

    Returns:
        The damage, and why a file cannot be read: both None if there is none.
    """
    try:
        files = read_manifest(folder)
        largest_first = sorted(files, key=lambda name: (-files[name]["bytes"], name))
        for name in largest_first[rank::count]:
            verify(folder, name, files[name])
    except Unreadable as error:
        return str(error), None
    except OSError as error:
        return None, str(error)
    return None, None


def _read_snapshot(folder: Path) -> Snapshot:
    state = json.loads((folder / STATE).read_text())
    if (folder / INDEX).exists():
        return Snapshot(state["step"], read_index(folder), state["parts"])
    opened = file_opener()
    tensors = {path.stem: whole_tensors(path, opened) for path in sorted(folder.glob(f"*{TENSORS}"))}
    return Snapshot(state["step"], tensors, state["parts"])


_NAME = re.compile(r"step-(\d{9})")


class Store:
    """The folder of a run's checkpoints, each named by its step."""

    def __init__(self, folder: Path, keep: int, stays: Callable[[int], object] = lambda _: None) -> None:
        """Open the folder, and make it if need be.

        Args:
            keep: number of the newest checkpoints that are kept.
            stays: function that returns why the checkpoint of a step stays at any age, or None.
        """
        self.folder, self._keep, self._stays = folder, keep, stays
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """Return the steps of the finished checkpoints, newest first."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step-{step:09d}"

    def save(self, snapshots: Mapping[str, Snapshot], processes: Processes | None = None) -> None:
        """Write a checkpoint, then remove those that are too old now.

        Args:
            snapshots: see `write` and `write_shards`.
            processes: processes that each have shards of the snapshots, and all call this; None: the
                snapshots are whole.
        """
        folder = self.path(snapshots[""].step)
        there = folder.exists()  # it was read, or written, by this very run
        if processes is None:
            if not there:
                write(folder, snapshots)
        elif not processes.gather(there)[0]:
            write_shards(folder, snapshots, processes)
        if processes is None or processes.rank == 0:
            for old in self.steps()[self._keep :]:
                if self._stays(old) is None:
                    shutil.rmtree(self.path(old))

    def newest(self, processes: Processes | None = None) -> tuple[dict[str, Snapshot] | None, list[str]]:
        """Return the newest readable checkpoint, or None, and the damage of newer ones, which are removed.

        If they stayed, they would count as the newest, and the readable one would be removed next. Unfinished
        writes are removed, too.

        Args:
            processes: processes that continue from it, and all call this; by default this one alone.

        Raises:
            StageFailed: the processes see different checkpoints.
        """
        processes = processes or OneProcess()
        is_main = processes.rank == 0
        for aside in self.folder.glob(".step-*") if is_main else ():
            shutil.rmtree(aside)
        seen = processes.gather(self.steps())
        if any(steps != seen[0] for steps in seen):
            newest = ", ".join(str(steps[0] if steps else 0) for steps in seen)
            raise StageFailed(
                f"the processes disagree on the checkpoint to continue from: {newest}",
                hint="All of them must see the same files: use a folder that every machine shares.",
            )
        wrong: list[str] = []
        for step in seen[0]:
            try:
                return read(self.path(step), processes), wrong
            except Unreadable as error:
                wrong.append(f"the checkpoint of step {step} is unreadable and is removed: {error}")
                if is_main:
                    shutil.rmtree(self.path(step))
        return None, wrong


def read_step(folder: Path, step: int) -> Snapshot:
    """Return the training's snapshot of a step's checkpoint.

    Args:
        folder: folder of the checkpoints.

    Raises:
        StageFailed: the checkpoint is unreadable.
    """
    try:
        return read(Store(folder, keep=1).path(step))[""]
    except Unreadable as error:
        raise StageFailed(f"the checkpoint of step {step} is unreadable: {error}") from error


@torch.no_grad()
def load_weights(folder: Path, step: int, model: nn.Module, new_tokens: Sequence[int] = ()) -> None:
    """Load the trained weights of a step's checkpoint into a model.

    Args:
        folder: folder of the checkpoints.
        model: float32 model.
        new_tokens: ids of the tokens whose rows may be weights of their own.

    Raises:
        StageFailed: the checkpoint is unreadable, or another model's.
    """
    saved = read_step(folder, step).tensors["weights"]
    parameters = dict(model.named_parameters())
    matrices = {name: saved[name] for name in saved if not name.endswith(NEW_ROWS)}
    trained = {name: parameters[name] for name in matrices if name in parameters}
    WeightState(trained, lambda: None).load_state_dict(matrices)
    for name in saved.keys() - matrices.keys():
        matrix = parameters[name.removesuffix(NEW_ROWS)]
        matrix[list(new_tokens)] = load_like(saved[name], matrix)
