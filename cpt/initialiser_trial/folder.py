"""Keep the finished rows of a trial, so that a stop loses one training at most."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpt.errors import DamagedFile, UsageError
from cpt.initialiser_trial.results import TrialResult, TrialRow, plot
from cpt.json_file import parse_rows

FIGURES, PICTURE = "comparison.json", "comparison.svg"
_REQUEST, _ROWS, _SCRATCH = "asked.json", "rows.jsonl", "scratch"


class TrialFolder:
    """The folder of a trial: finished rows, then figures and picture.

    Attributes:
        rows: Finished rows by method and seed; failed rows are left out, so that they are tried again.
        scratch: Folder for intermediate results; empty at the start, removed at the end.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        """Begin a trial, or continue one.

        Args:
            folder: Folder that is new, empty, or left by the same trial when it was stopped.
            request: Plain data that identifies the trial.

        Raises:
            UsageError: The folder holds something else.
        """
        self._folder, self._request = folder, json.loads(json.dumps(request, default=str))
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if (folder.exists() and not folder.is_dir()) or (found and not self._is_ours()):
            raise UsageError(f"{folder} exists already", hint="Choose another --out, or remove it first.")
        self.scratch = folder / _SCRATCH
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        (folder / _REQUEST).write_text(_json(self._request), encoding="utf-8")
        self.rows = {(row.method, row.seed): row for row in self._read() if not row.failure}

    def add(self, row: TrialRow) -> None:
        """Write a finished row."""
        if (row.method, row.seed) not in self.rows:
            with (self._folder / _ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")

    def finish(self, result: TrialResult) -> None:
        """Write figures and picture, and remove rows and intermediate results."""
        plot(result, self._folder / PICTURE)
        figures = {"asked": self._request, **result.as_json()}
        (self._folder / FIGURES).write_text(_json(figures), encoding="utf-8")
        for name in (_REQUEST, _ROWS):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.scratch)

    def _is_ours(self) -> bool:
        file = self._folder / _REQUEST
        return file.is_file() and file.read_bytes() == _json(self._request).encode()

    def _read(self) -> list[TrialRow]:
        file = self._folder / _ROWS
        content = file.read_bytes() if file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        hint = "Choose another --out, or remove the folder to compare anew."
        rows = parse_rows(whole, dict[str, Any], file, hint)
        try:
            found = [_row_of_json(row) for row in rows]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFile(file, f"not of the form that a comparison has: {error}", hint=hint) from error
        file.write_bytes(whole)
        return found


def _row_of_json(data: dict[str, Any]) -> TrialRow:
    curves = {
        name: {int(step): value for step, value in data[name].items()} for name in ("domain", "general")
    }
    return TrialRow(**{**data, **curves})


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
