"""The list of a checkpoint's files: their sizes and checksums, by which damage is found."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

MANIFEST = "checkpoint.json"

Facts = Mapping[str, Any]
"""Size in bytes and SHA-256 of a file."""


class Unreadable(Exception):
    """The error of a checkpoint's folder that is not as it was written; it names the file and the damage."""


def facts_of(path: Path) -> Facts:
    """Return the size and the checksum of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_manifest(folder: Path, files: Mapping[str, Facts]) -> None:
    """Write the list of all other files of a checkpoint, after them.

    Args:
        files: facts by path within the folder.
    """
    (folder / MANIFEST).write_text(json.dumps({"files": files}))


def read_manifest(folder: Path) -> Mapping[str, Facts]:
    """Return the facts of a checkpoint's files, by path within the folder.

    Raises:
        Unreadable: the list is missing or damaged.
        OSError: the system refuses to read it.
    """
    try:
        files: Mapping[str, Facts] = json.loads((folder / MANIFEST).read_text())["files"]
        _ = [(facts["bytes"], facts["sha256"]) for facts in files.values()]
    except FileNotFoundError as error:
        raise Unreadable(f"{MANIFEST} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"{MANIFEST} is damaged") from error
    return files


def verify(folder: Path, name: str, expected: Facts) -> None:
    """Compare a file with its facts.

    Raises:
        Unreadable: it is missing, cut off or changed.
        OSError: the system refuses to read it.
    """
    path = folder / name
    if not path.is_file():
        raise Unreadable(f"{name} is missing")
    found = facts_of(path)
    if found["bytes"] != expected["bytes"]:
        raise Unreadable(f"{name} has {found['bytes']:,} bytes instead of {expected['bytes']:,}")
    if found["sha256"] != expected["sha256"]:
        raise Unreadable(f"{name} does not match its checksum")


def is_full(error: BaseException) -> bool:
    """Return True if the disk is full; safetensors has the system's error as text only."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, SafetensorError):
        return any(f"os error {number}" in str(error) for number in numbers)
    return isinstance(error, OSError) and error.errno in numbers
