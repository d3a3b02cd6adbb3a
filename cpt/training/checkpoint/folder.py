"""A checkpoint's folder: written aside, checksummed, renamed; read only if every file is what was written.

checkpoint.json            size and SHA-256 of every other file
state.json                 the parts' JSON data
<part>.safetensors         the parts' tensors
last-good/…                the same of the snapshot that an anomaly would roll back to, if it is older
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cpt.atomic import atomic_folder
from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint.snapshot import Snapshot

LAST_GOOD = "last-good"
_MANIFEST, _STATE, _TENSORS = "checkpoint.json", "state.json", ".safetensors"
_SLACK = 1 << 20
"""Bytes for JSON and headers, beyond those of the tensors."""


class Unreadable(Exception):
    """A checkpoint's folder is not what was written. The message says which file, and in which way."""


def require_space(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Raise unless a checkpoint fits on the folder's disk beside what is there already.

    Raises:
        DiskFull: it does not.
    """
    needed = sum(snapshot.bytes + len(json.dumps(snapshot.data)) for snapshot in snapshots.values()) + _SLACK
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(folder, needed, free)


def write(folder: Path, snapshots: Mapping[str, Snapshot]) -> None:
    """Write `folder`, which must not exist; after a failure nothing is left of it.

    Args:
        snapshots: by subfolder, "" for the folder itself.

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
    """The snapshots of a checkpoint, by subfolder.

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
            "goes on from the checkpoint before.",
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
    """Whether the disk is full; safetensors hands the system's words on as text."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, SafetensorError):
        return any(f"os error {number}" in str(error) for number in numbers)
    return isinstance(error, OSError) and error.errno in numbers


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
