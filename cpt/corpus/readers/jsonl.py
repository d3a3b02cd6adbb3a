"""One JSON object per line, optionally compressed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

from cpt.corpus.documents import Document, Item, Removed, data_error
from cpt.corpus.readers.streams import decode, open_bytes
from cpt.errors import Problem

_MOST_PROBLEMS = 10


def read_jsonl(path: Path, name: str, text_field: str) -> Iterator[Item]:
    """Yield one document per line; blank lines are nothing, a null text is removed as "empty".

    Args:
        name: What documents' ids start with; the line number follows.

    Raises:
        DataError: Shows the first problems of the file (at most ten), each with its line.
        OSError: The compressed stream is damaged or truncated.
    """
    problems: list[Problem] = []
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            found = _item(line, number, path, name, text_field)
            if isinstance(found, Problem):
                problems.append(found)
            elif found is not None and not problems:
                yield found
            if len(problems) == _MOST_PROBLEMS:
                problems.append(Problem("further lines were not looked at", file=str(path)))
                break
    if problems:
        raise data_error(problems)


def _item(line: bytes, number: int, path: Path, name: str, text_field: str) -> Item | Problem | None:
    decoded = decode(line, path, number)
    if isinstance(decoded, Problem):
        return decoded
    if not decoded.strip():
        return None
    record = _record(decoded.rstrip())
    text = record if isinstance(record, Problem) else _text(record, text_field)
    if isinstance(text, Problem):
        return Problem(text.message, file=str(path), line=number, hint=text.hint)
    id = f"{name}:{number}"
    return Removed(id, "empty") if text is None else Document(id, text)


def _record(line: str) -> dict[str, object] | Problem:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Problem(f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Problem(f"not JSON that can be read: {error}")
    if not isinstance(record, dict):
        return Problem(f"a JSON object is needed, not {_json_type(record)}")
    return record


def _text(record: dict[str, object], text_field: str) -> str | Problem | None:
    if text_field not in record:
        fields = ", ".join(list(record)[:10]) or "none"
        near = difflib.get_close_matches(text_field, record, n=1) or [
            field for field, value in record.items() if isinstance(value, str)
        ]
        hint = f"Set text_field: {near[0]} if that is the text." if near else None
        return Problem(f"no field {text_field!r}; its fields are: {fields}", hint=hint)
    text = record[text_field]
    if text is None:
        return None
    if not isinstance(text, str):
        return Problem(f"field {text_field!r} holds {_json_type(text)}, not text")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Problem(f"field {text_field!r} holds half of a surrogate pair, which is not a character")
    return text


def _json_type(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
