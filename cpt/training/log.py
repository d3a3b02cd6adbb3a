"""The training log: one JSON line per step, cut back to the checkpoint when a run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class StepLog:
    """An append-only JSON-lines file whose length is part of a checkpoint's state."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open `path` with only its first `length` bytes kept."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, length)
        self._file = path.open("ab")

    def write(self, record: Mapping[str, float | int]) -> None:
        """Append one record."""
        self._file.write(json.dumps(record).encode() + b"\n")

    def length(self) -> int:
        """Bytes written so far, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class NoLog:
    """The log of a process that writes nothing: of several, only the main one does."""

    def write(self, record: Mapping[str, float | int]) -> None:
        """Forget a record."""

    def length(self) -> int:
        """Nothing has been written."""
        return 0

    def close(self) -> None:
        """There is nothing to close."""
