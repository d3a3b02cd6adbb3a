"""Find published data sets among a user's files, by the names that their authors gave them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from cpt.references import cache_folder
from evals.sources import Source

_READ_BYTES = 2**20


@dataclass(frozen=True)
class LocalDataset:
    """A data set, or a part of it, in a folder of the user's.

    Attributes:
        source: Data set.
        part: Part of it; None for the whole.
        files: Files that were found, by role.
        missing: Endings of the paths that were not found.
        ambiguous: Files of different content that match the same ending, by ending.
    """

    source: Source
    part: str | None
    files: Mapping[str, Path]
    missing: tuple[str, ...]
    ambiguous: Mapping[str, tuple[Path, ...]]

    @property
    def complete(self) -> bool:
        """Return True if every file is there."""
        return not self.missing and not self.ambiguous

    def checksum(self) -> str:
        """Return the SHA-256 of the content of all files by role: the same in any folder."""
        lines = (f"{role} {file_checksum(file)}\n" for role, file in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class DataFolder:
    """A folder of data sets, in any folders below it; listed once."""

    def __init__(self, root: Path) -> None:
        """List a folder; links are followed, hidden folders are not entered."""
        self.root = root.absolute()
        self._by_name: dict[str, list[Path]] = {}
        for file in _walk(self.root):
            self._by_name.setdefault(file.name, []).append(file)

    def find(self, source: Source, part: str | None) -> LocalDataset:
        """Find the files of a data set, or of a part of it."""
        files: dict[str, Path] = {}
        missing: list[str] = []
        ambiguous: dict[str, tuple[Path, ...]] = {}
        for role, ending in source.endings(part).items():
            matches = self._ending(ending)
            if not matches:
                missing.append(ending)
            elif len({file_checksum(match) for match in matches}) > 1:
                ambiguous[ending] = tuple(matches)
            else:
                files[role] = matches[0]
        return LocalDataset(source, part, files, tuple(missing), ambiguous)

    def _ending(self, ending: str) -> list[Path]:
        parts = PurePath(ending).parts
        candidates = self._by_name.get(parts[-1], []) if parts else []
        return [file for file in candidates if file.parts[-len(parts) :] == parts]


def file_checksum(file: Path) -> str:
    """Return the SHA-256 of a file, read again only if its size or its time of change is another."""
    facts = file.stat()
    return _checksum(file, facts.st_size, facts.st_mtime_ns)


@functools.cache
def _checksum(file: Path, size: int, changed: int) -> str:  # noqa: ARG001 - size and time are the cache's key
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _walk(root: Path) -> list[Path]:
    """Return every file below a folder, in order; a folder that links lead to twice is entered once."""
    files: list[Path] = []
    entered: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files += [Path(folder, name) for name in sorted(names)]
    return files


def data_cache() -> Path:
    """Return the folder of data sets in the form in which tasks read them."""
    return cache_folder() / "evals" / "data"
