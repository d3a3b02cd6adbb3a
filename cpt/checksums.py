"""Write the checksums of a folder's files, and compare the files that have changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from cpt.atomic import write_text
from cpt.errors import DamagedFile
from cpt.json_file import read_json

FILE = "checksums.json"

Stamp = list[int]
"""Size, time of the last change (ns) and inode of a file: equal if it has not changed."""


class FileSum(BaseModel):
    """The size and SHA-256 of a file."""

    bytes: int
    sha256: str


class Checksums(BaseModel):
    """The content of `checksums.json`: all other files of the folder by relative path."""

    files: dict[str, FileSum]


def checksum(path: Path) -> FileSum:
    """Compute a file's checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSum(bytes=file.tell(), sha256=digest)


def write_checksums(folder: Path) -> dict[str, Stamp]:
    """Write the checksums of all files in a folder, replacing existing ones, and return the files' stamps."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    names = sorted(name for name in names if name != FILE)
    seen = {name: _stamp(folder / name) for name in names}
    files = {name: checksum(folder / name).model_dump() for name in names}
    write_text(folder / FILE, json.dumps({"files": files}, indent=1) + "\n")
    return {FILE: _stamp(folder / FILE), **seen}


def verify(folder: Path, verified: Mapping[str, Stamp]) -> tuple[list[str], dict[str, Stamp]]:
    """Compare a folder's files with their checksums.

    A file is read only if its size is right and its stamp differs from that of the last successful check.

    Args:
        verified: Stamps of the last successful check.

    Returns:
        The damage of each file that differs, one phrase each, and the stamps of all files.
    """
    try:
        seen = {FILE: _stamp(folder / FILE)}
        sums = read_json(folder / FILE, Checksums)
    except FileNotFoundError:
        return [f"{FILE}: the file is missing"], {}
    except DamagedFile as error:
        return [f"{FILE}: {error.reason}"], {}
    except OSError as error:
        return [f"{FILE}: cannot be read: {error.strerror or error}"], {}
    known = verified if verified.get(FILE) == seen[FILE] else {}
    faults = []
    for name, expected in sums.files.items():
        try:
            seen[name] = _stamp(folder / name)
            fault = "" if seen[name] == known.get(name) else _fault(folder / name, expected)
        except FileNotFoundError:
            fault = "the file is missing"
        except OSError as error:
            fault = f"cannot be read: {error.strerror or error}"
        if fault:
            faults.append(f"{name}: {fault}")
    return faults, seen


def _fault(path: Path, expected: FileSum) -> str:
    size = path.stat().st_size
    if size != expected.bytes:
        return f"{size:,} bytes instead of {expected.bytes:,}"
    return "" if checksum(path) == expected else "the content does not match its checksum"


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    # Not the ctime: a hard link changes it, and 100 GB would be read again.
    return [found.st_size, found.st_mtime_ns, found.st_ino]
