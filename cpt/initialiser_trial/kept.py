"""A comparison's folder: every finished row is kept at once, so that a stop loses one method at most."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpt.errors import DamagedFile, UsageError
from cpt.initialiser_trial.methods import Comparison, Row
from cpt.initialiser_trial.plot import plot
from cpt.json_file import parse_rows

FIGURES, PICTURE = "comparison.json", "comparison.svg"

_ASKED, _ROWS, _SCRATCH = "asked.json", "rows.jsonl", "scratch"


class KeptRows:
    """Rows on disk.

    Attributes:
        rows: those that are known, by method; one that failed is not.
        scratch: folder for what is made on the way; empty at the start, gone when all is finished.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        """Begin a comparison, or go on with one.

        Args:
            folder: new, empty, or left by the same comparison when it was stopped.
            asked: what makes the comparison what it is, as plain data.

        Raises:
            UsageError: the folder holds something else.
        """
        self._folder, self._asked = folder, json.loads(json.dumps(asked, default=str))
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if (folder.exists() and not folder.is_dir()) or (found and not self._is_ours()):
            raise UsageError(f"{folder} exists already", hint="Choose another --out, or remove it first.")
        self.scratch = folder / _SCRATCH
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        (folder / _ASKED).write_text(_json(self._asked), encoding="utf-8")
        self.rows = {row.method: row for row in self._read() if not row.failure}

    def add(self, row: Row) -> None:
        """Keep a row."""
        if row.method not in self.rows:
            with (self._folder / _ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")

    def finish(self, comparison: Comparison) -> None:
        """Write figures and picture, and remove what led to them."""
        plot(comparison, self._folder / PICTURE)
        figures = {"asked": self._asked, **comparison.as_json()}
        (self._folder / FIGURES).write_text(_json(figures), encoding="utf-8")
        for name in (_ASKED, _ROWS):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.scratch)

    def _is_ours(self) -> bool:
        file = self._folder / _ASKED
        return file.is_file() and file.read_bytes() == _json(self._asked).encode()

    def _read(self) -> list[Row]:
        file = self._folder / _ROWS
        content = file.read_bytes() if file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        hint = "Choose another --out, or remove the folder to compare anew."
        rows = parse_rows(whole, dict[str, Any], file, hint)
        try:
            found = [_row(row) for row in rows]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFile(file, f"not of the form that a comparison has: {error}", hint=hint) from error
        file.write_bytes(whole)
        return found


def _row(data: dict[str, Any]) -> Row:
    curves = {
        name: {int(step): value for step, value in data[name].items()} for name in ("domain", "general")
    }
    return Row(**{**data, **curves})


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
