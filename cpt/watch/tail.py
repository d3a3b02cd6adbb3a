"""A JSON-lines file that another process is writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt.json_file import parse_rows


class Tail:
    """The file's whole rows so far; only what is new is read.

    A run that continues cuts its log back to the last checkpoint and writes on. That is noticed by the last
    row, which tells seconds and so is never written twice alike: where it is gone, all is read again.
    """

    def __init__(self, path: Path, shape: Any = dict[str, Any]) -> None:
        """Follow a file whose rows have a shape (`cpt.json_file`)."""
        self._path, self._shape = path, shape
        self._forget()

    def rows(self) -> list[dict[str, Any]]:
        """All rows; none while there is no file. A row that is still being written is left for later.

        Raises:
            DamagedFile: A row is no JSON or has another shape.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._end - len(self._last))
                if file.read(len(self._last)) != self._last:
                    self._forget()
                    file.seek(0)
                self._take(file.read())
        except FileNotFoundError:
            self._forget()
        return self._rows

    def _forget(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._end, self._last, self._lines = 0, b"", 0

    def _take(self, new: bytes) -> None:
        whole = new[: new.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        if lines:
            first = self._lines + 1
            self._rows.extend(parse_rows(whole, self._shape, self._path, first_line=first))
            self._lines += len(lines)
            self._end, self._last = self._end + len(whole), lines[-1]
