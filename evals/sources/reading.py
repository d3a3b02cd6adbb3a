"""Reading the formats in which data sets are given away; what is wrong is said with its file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Rows


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
