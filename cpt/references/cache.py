"""The cache folder: content hashes that are remembered, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from cpt.atomic import write_text
from cpt.errors import ReferenceUnavailable
from cpt.references.files import open_file

_TICK_NS = 20_000_000
"""Time stamps of files move in steps of up to 10 ms: a younger file may change without another one."""


def cache_folder() -> Path:
    """Folder of fetched and converted files: `CPT_CACHE`, or the platform's cache folder for cpt."""
    import platformdirs

    chosen = os.environ.get("CPT_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("cpt")


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """Build `target` once, even when several processes want it: lock, fill a scratch folder, rename.

    Yields:
        A scratch folder on the same file system; the caller moves its result to `target` with `publish`.
        Check `target` again inside: another process may have built it while this one waited.
    """
    import filelock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(f".{target.name}.lock")):
            prefix = f".building-{target.name}-"
            for leftover in target.parent.glob(f"{glob.escape(prefix)}*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ReferenceUnavailable(
            f"cannot write to the cache folder {target.parent}: {error.strerror or error}",
            hint="Free some space, or set CPT_CACHE to a folder that can be written.",
        ) from error


def publish(built: Path, target: Path) -> None:
    """Move a finished file or folder to its place in one step."""
    built.replace(target)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, remembered in the cache as long as the file does not change.

    Raises:
        SourceError: It is no regular file.
        OSError: It cannot be read.
    """
    with open_file(path) as file:
        return opened_sha256(file, path)


def opened_sha256(file: io.FileIO, path: Path) -> str:
    """Return `file_sha256` of a file that is open; its position moves.

    Args:
        path: Place of the file, under which its hash is remembered.
    """
    name, state = str(path.absolute()), file_state(file)
    key = {"path": name, **state}
    memo = cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(memo.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known == {**key, "sha256": known.get("sha256")}:
            return str(known["sha256"])
    file.seek(0)
    begun = time.time_ns()
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if file_state(file) != state or begun - max(state["mtime_ns"], state["ctime_ns"]) < _TICK_NS:
        return sha256  # it changes, or could change without another time stamp: hash it again next time
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_text(memo, json.dumps({**key, "sha256": sha256}), durable=False, concurrent=True)
    return sha256


def file_state(file: io.FileIO) -> dict[str, int]:
    """What changes with the content of an open file; the change time cannot be set back."""
    stat = os.fstat(file.fileno())
    return {
        "inode": stat.st_ino,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }


def folders_sha256(folders: Sequence[Path]) -> list[str]:
    """SHA-256 over the names and contents of all files in a folder that are not hidden, for each folder.

    The first files of all are read first: folders of models are alike, and a merge reads them side by side at
    the same time, so that what one of both has read is in memory for the other.
    """
    files = [visible_files(folder) for folder in folders]
    hashes = {path: file_sha256(path) for row in zip_longest(*files) for path in row if path is not None}

    return [
        folder_sha256(folder, {path: hashes[path] for path in paths})
        for folder, paths in zip(folders, files, strict=True)
    ]


def folder_sha256(folder: Path, files: Mapping[Path, str]) -> str:
    """SHA-256 of a folder: over the names and the hashes of its files, in their order."""
    lines = (f"{path.relative_to(folder).as_posix()}\0{sha256}\n" for path, sha256 in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted by relative path, without hidden ones."""

    def visible(path: Path) -> bool:
        return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)

    found = [path for path in folder.rglob("*") if visible(path)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())
