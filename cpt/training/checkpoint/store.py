"""Store checkpoints on the disk: write, checksum and rename them; read one only if every file is whole.

A checkpoint is a folder:

checkpoint.json            size and SHA-256 of every other file
state.json                 JSON data of all objects with state
<name>.safetensors         tensors of one of them
last-good/…                the same for the snapshot that an anomaly rolls back to, if it is older
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cpt.atomic import atomic_folder
from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import WeightState
from cpt.training.optimizers.groups import NEW_ROWS

LAST_GOOD = "last-good"
_MANIFEST, _STATE, _TENSORS = "checkpoint.json", "state.json", ".safetensors"
_SLACK = 1 << 20
"""Space in bytes for JSON and headers."""


class Unreadable(Exception):
    """The error of a checkpoint's folder that is not as it was written; it names the file and the damage."""


def require_space(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Raise if a checkpoint does not fit on the folder's disk, beside all that is there.

    Raises:
        DiskFull: there is less space than it needs.
    """
    needed = sum(snapshot.bytes + len(json.dumps(snapshot.data)) for snapshot in snapshots.values()) + _SLACK
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(folder, needed, free)


def write(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Write a checkpoint to a folder that does not exist; after a failure nothing is left of it.

    Args:
        snapshots: snapshots by subfolder, "" for the folder itself.

    Raises:
        DiskFull: the disk is full after all.
    """
    try:
        with atomic_folder(folder) as scratch:
            for place, snapshot in snapshots.items():
                _write_snapshot(scratch / place, snapshot)
            files = {path.relative_to(scratch).as_posix(): _facts(path) for path in sorted(_files(scratch))}
            (scratch / _MANIFEST).write_text(json.dumps({"files": files}))
    except BaseException as error:
        if _is_full(error):
            size = sum(snapshot.bytes for snapshot in snapshots.values())
            raise DiskFull(folder.parent, size, shutil.disk_usage(folder.parent).free) from None
        raise


def read(folder: Path) -> dict[str, Snapshot]:
    """Return the snapshots of a checkpoint, by subfolder.

    Raises:
        Unreadable: a file is missing, cut off or changed.
        StageFailed: the system refuses to read a file, which may be whole.
    """
    try:
        files: Mapping[str, Mapping[str, Any]] = json.loads((folder / _MANIFEST).read_text())["files"]
        for name, facts in files.items():
            _verify(folder / name, name, facts)
        places = ["", *([LAST_GOOD] if f"{LAST_GOOD}/{_STATE}" in files else [])]
        return {place: _read_snapshot(folder / place) for place in places}
    except FileNotFoundError as error:
        raise Unreadable(f"{Path(error.filename).name} is missing") from error
    except OSError as error:
        raise StageFailed(
            f"the checkpoint {folder} cannot be read: {error}",
            hint="Run again when it can be read. If it is lost, remove this folder: the run then "
            "continues from the checkpoint before.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise Unreadable(f"{_MANIFEST} is damaged") from error


def _write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STATE).write_text(json.dumps({"step": snapshot.step, "parts": snapshot.data}))
    for name, tensors in snapshot.tensors.items():
        save_file({key: t.contiguous() for key, t in tensors.items()}, folder / f"{name}{_TENSORS}")


def _read_snapshot(folder: Path) -> Snapshot:
    state = json.loads((folder / _STATE).read_text())
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob(f"*{_TENSORS}"))}
    return Snapshot(state["step"], tensors, state["parts"])


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _verify(path: Path, name: str, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise Unreadable(f"{name} is missing")
    found = _facts(path)
    if found["bytes"] != expected["bytes"]:
        raise Unreadable(f"{name} has {found['bytes']:,} bytes instead of {expected['bytes']:,}")
    if found["sha256"] != expected["sha256"]:
        raise Unreadable(f"{name} does not match its checksum")


def _is_full(error: BaseException) -> bool:
    """Return True if the disk is full; safetensors has the system's error as text only."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, SafetensorError):
        return any(f"os error {number}" in str(error) for number in numbers)
    return isinstance(error, OSError) and error.errno in numbers


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


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

    def save(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Write a checkpoint, then remove those that are too old now.

        Args:
            snapshots: see `write`.
        """
        folder = self.path(snapshots[""].step)
        if not folder.exists():  # what is there was read, or written, by this very run
            write(folder, snapshots)
        for old in self.steps()[self._keep :]:
            if self._stays(old) is None:
                shutil.rmtree(self.path(old))

    def newest(self, writes: bool = True) -> tuple[dict[str, Snapshot] | None, list[str]]:
        """Return the newest readable checkpoint, or None, and the damage of newer ones, which are removed.

        If they stayed, they would count as the newest, and the readable one would be removed next. Unfinished
        writes are removed, too.

        Args:
            writes: True for the process, of several, that removes files.
        """
        for aside in self.folder.glob(".step-*") if writes else ():
            shutil.rmtree(aside)
        wrong: list[str] = []
        for step in self.steps():
            try:
                return read(self.path(step)), wrong
            except Unreadable as error:
                wrong.append(f"the checkpoint of step {step} is unreadable and is removed: {error}")
                if writes:
                    shutil.rmtree(self.path(step))
        return None, wrong


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
    try:
        saved = read(Store(folder, keep=1).path(step))[""].tensors["weights"]
    except Unreadable as error:
        raise StageFailed(f"the checkpoint of step {step} is unreadable: {error}") from error
    parameters = dict(model.named_parameters())
    matrices = {name: saved[name] for name in saved if not name.endswith(NEW_ROWS)}
    trained = {name: parameters[name] for name in matrices if name in parameters}
    WeightState(trained, lambda: None).load_state_dict(matrices)
    for name in saved.keys() - matrices.keys():
        matrix = parameters[name.removesuffix(NEW_ROWS)]
        matrix[list(new_tokens)] = saved[name].to(matrix.device)
