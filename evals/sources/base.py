"""The form of a data set: its files and the rows that tasks read; readers of published file formats.

Errors name the file and the line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem

Rows = list[dict[str, Any]]
Files = Mapping[str, Path]


@dataclass(frozen=True)
class Source:
    """A published data set in the form in which its authors publish it.

    Attributes:
        name: Name in suites. A part of it (a subject, a subset) is named after a colon: `mmlu:anatomy`.
        title: Full name.
        licence: Licence of the data, with the place that states it if that is not the origin.
        origin: Paper or repository.
        files: Ending of a file's path below the user's data folder, by role. `{part}` stands for the part.
        read: Function of the files by role and of the part (None if none was named). It returns the rows of
            every split, with the columns and split names of the data set on the hub that the task reads
            otherwise.
        version: Number that rises when `read` gives other rows for the same files.
    """

    name: str
    title: str
    licence: str
    origin: str
    files: Mapping[str, str]
    read: Callable[[Files, str | None], Mapping[str, Rows]]
    version: int = 1

    def endings(self, part: str | None) -> dict[str, str]:
        """Return the ending of every file's path for a part, by role."""
        return {role: ending.replace("{part}", part or "") for role, ending in self.files.items()}


def read_jsonl(file: Path) -> Rows:
    """Read the objects of a file, one a line; empty lines are skipped."""
    return parse_jsonl(file.read_text(encoding="utf-8").split("\n"), str(file))


def parse_jsonl(lines: Iterable[str], name: str) -> Rows:
    """Parse the objects of lines.

    Args:
        lines: Lines of a file.
        name: Name of the file in error messages.
    """
    rows: Rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(str(Problem(f"not valid JSON: {error}", file=name, line=number))) from None
        if not isinstance(row, dict):
            raise DataError(str(Problem("not an object", file=name, line=number)))
        rows.append(row)
    return rows


def read_json(file: Path) -> Any:
    """Read the value of a file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(str(Problem(f"not valid JSON: {error}", file=str(file)))) from None


def read_csv(file: Path, columns: int) -> list[list[str]]:
    """Read the records of a CSV file without a header.

    Args:
        file: CSV file.
        columns: Number of fields of every record.

    Raises:
        DataError: A record has another number of fields.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        records = []
        for record in reader:
            if len(record) != columns:
                reason = f"{len(record)} fields where {columns} are expected"
                raise DataError(str(Problem(reason, file=str(file), line=reader.line_num)))
            records.append(record)
    return records


def labelled_choices(texts: Sequence[str], right: int) -> dict[str, Any]:
    """Return choices with letters, and the right one's letter, in the columns of AI2's data sets."""
    labels = [chr(ord("A") + place) for place in range(len(texts))]
    return {"choices": {"text": list(texts), "label": labels}, "answerKey": labels[right]}
