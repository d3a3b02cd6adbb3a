"""Write files and folders aside and rename them into place: each is there whole or not at all.

A rename is atomic against a killed process. Against a machine that goes down it is only so if the content was
flushed to the disk before (`durable`), or the new name could appear with nothing behind it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_file(path: Path, *, durable: bool = True, concurrent: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` at the end, remove it after an error.

    Args:
        durable: Whether the file is flushed to the disk; a cache that can be made again needs that not.
        concurrent: Whether several threads or processes may write the file at the same time. Each then has
            its own scratch file. Otherwise the next attempt overwrites what a killed process left.
    """
    scratch = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp" if concurrent else f".{path.name}.tmp")
    try:
        yield scratch
        if durable:
            flush_one(scratch)
        scratch.replace(path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(scratch):
            error.filename = str(path)  # the user knows no scratch file
        raise


def write_text(path: Path, text: str, *, durable: bool = True, concurrent: bool = False) -> None:
    """Write a text file in UTF-8, whole or not at all (`atomic_file`)."""
    with atomic_file(path, durable=durable, concurrent=concurrent) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path, *, durable: bool = True, concurrent: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; rename it to `path` at the end.

    After an error nothing is left of it, nor of the parent folders that were made to hold it. What a killed
    process left is removed first. An empty folder at `path` is replaced.

    Args:
        durable: Whether everything is flushed to the disk before the rename.
        concurrent: Whether several processes may fill such a folder at the same time (`atomic_file`).
    """
    path = path.absolute()
    made = [folder for folder in path.parents if not folder.exists()]
    owner = f".{os.getpid()}" if concurrent else ""
    scratch = path.with_name(f".{path.name}{owner}.unfinished")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        publish_folder(scratch, path, durable=durable)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()


def publish_folder(scratch: Path, path: Path, *, durable: bool = True, former: Path | None = None) -> None:
    """Rename a filled folder to `path`.

    Args:
        durable: Whether everything is flushed to the disk before the rename, and the new name after it.
        former: Place to which a folder at `path` is moved. Without it, only an empty folder is replaced.
    """
    if durable:
        flush(scratch)
    if path.is_dir() and former is None:
        path.rmdir()
    elif path.exists() and former is not None:
        path.rename(former)
    scratch.rename(path)
    if durable:
        flush_one(path.parent)


def flush(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    for path in [*folder.rglob("*"), folder]:
        flush_one(path)


def flush_one(path: Path) -> None:
    """Flush a file, or a folder's list of entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
