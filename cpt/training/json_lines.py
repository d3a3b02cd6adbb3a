"""Append to the JSON-lines files of a run, and cut them back to a checkpoint."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cpt.atomic import write_text


class JsonLines:
    """An append-only JSON-lines file whose length can be part of a checkpoint's state."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open a file and keep only its first `length` bytes; of a shorter file, keep its whole lines."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if path.stat().st_size < length:
            length = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, length)
        self._file = path.open("ab")

    def write(self, record: Mapping[str, Any]) -> bytes:
        """Append one record, flush it and return its line; a number that is not finite is null."""
        line = _line(record).encode()
        self._file.write(line)
        self._file.flush()
        return line

    def length(self) -> int:
        """Return the number of bytes written so far, after a flush to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines atomically; a number that is not finite is null."""
    write_text(path, "".join(map(_line, records)))


def last_step(path: Path) -> int:
    """Return the step of a log's last whole record; 0 if there is none."""
    if not path.exists():
        return 0
    for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _line(record: Mapping[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
