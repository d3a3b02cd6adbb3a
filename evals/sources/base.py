"""What every data set's module declares: where its files are found, and the rows that tasks read.

Reading the formats in which data sets are given away; what is wrong is said with its file and line.
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
    """A published data set in the form in which its authors give it away.

    Attributes:
        name: as suites name it; a part of it (a subject, a subset) is named after a colon: `mmlu:anatomy`.
        title: its full name.
        licence: of the data, with the place that states it if that is not the origin.
        origin: paper or repository.
        files: by role, where a file is found: a path that ends so, anywhere below the user's data folder.
            `{part}` stands for the part.
        read: the rows of every split, with the columns and split names of the data set on the hub that the
            task reads otherwise, given the files by role and the part (None if none was named).
        version: raised when `read` gives other rows for the same files.
    """

    name: str
    title: str
    licence: str
    origin: str
    files: Mapping[str, str]
    read: Callable[[Files, str | None], Mapping[str, Rows]]
    version: int = 1

    def endings(self, part: str | None) -> dict[str, str]:
        """By role, how the path of a file of a part ends."""
        return {role: ending.replace("{part}", part or "") for role, ending in self.files.items()}


def read_jsonl(file: Path) -> Rows:
    """The objects of a file, one a line; empty lines are passed over."""
    return parse_jsonl(file.read_text(encoding="utf-8").split("\n"), str(file))


def parse_jsonl(lines: Iterable[str], name: str) -> Rows:
    """The objects of lines.

    Args:
        name: what an error calls the file.
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
    """The value of a file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(str(Problem(f"not valid JSON: {error}", file=str(file)))) from None


def read_csv(file: Path, columns: int) -> list[list[str]]:
    """The records of a CSV file without a header.

    Raises:
        DataError: a record has not as many fields as `columns`.
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
    """Choices with letters, and the right one's letter, in the columns of AI2's data sets."""
    labels = [chr(ord("A") + place) for place in range(len(texts))]
    return {"choices": {"text": list(texts), "label": labels}, "answerKey": labels[right]}
