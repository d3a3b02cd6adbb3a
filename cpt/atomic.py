"""Writing that outlives a machine that goes down, not only a process that is killed."""

from __future__ import annotations

import os
from pathlib import Path


def flush(folder: Path) -> None:
    """Flush a folder and all in it to the disk, so that a rename cannot outrun them."""
    for path in [*folder.rglob("*"), folder]:
        flush_one(path)


def flush_one(path: Path) -> None:
    """Flush a file, or a folder's list of what is in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text beside its place, flush it to the disk, then rename it into place."""
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
