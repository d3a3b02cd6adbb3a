"""Read one JSON object per line, optionally compressed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from cpt.corpus.documents import Document, Item, Removed, data_error
from cpt.corpus.readers.files import (
    ReadFiles,
    decode,
    listed,
    nearest,
    open_bytes,
    quoted,
    read_lines,
    shown,
)
from cpt.errors import Problem

_MOST_PROBLEMS = 10
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def read_jsonl(path: Path, name: str, text_field: str, files: ReadFiles | None = None) -> Iterator[Item]:
    """Yield one document per line. Blank lines are skipped, a null text is removed as "empty".

    Args:
        name: Prefix of the documents' ids; the line number follows.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file has problems; the first ten at most, each with its line.
        OSError: The compressed stream is damaged or truncated.
    """
    problems: list[Problem] = []
    with open_bytes(path, files) as stream:
        for number, line in enumerate(read_lines(stream, path), start=1):
            decoded = decode(line.rstrip(), path, number)
            del line  # a long line is never held in more copies than needed
            found = _item(decoded, number, path, name, text_field)
            del decoded
            if isinstance(found, Problem):
                problems.append(found)
            elif found is not None and not problems:
                yield found
            del found
            if len(problems) == _MOST_PROBLEMS:
                problems.append(Problem("further lines were not looked at", file=str(path)))
                break
    if problems:
        raise data_error(problems)


def _item(line: str | Problem, number: int, path: Path, name: str, text_field: str) -> Item | Problem | None:
    if isinstance(line, Problem):
        return line
    if not line or line.isspace():
        return None
    if line[-1].isspace():  # white space beyond ASCII
        line = line.rstrip()
    record = _record(line, text_field)
    text = record if isinstance(record, Problem) else _text(record, text_field)
    if isinstance(text, Problem):
        return Problem(text.message, file=str(path), line=number, hint=text.hint)
    id = f"{name}:{number}"
    return Removed(id, "empty") if text is None else Document(id, text)


def _record(line: str, text_field: str) -> dict[str, object] | Problem:
    """Parse a line. Only a duplicated text field is a problem, since it would lose a text."""
    twice: list[bool] = []

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.append(sum(key == text_field for key, _ in pairs) > 1)
        return dict(pairs)

    suspected = line.count(json.dumps(text_field, ensure_ascii=False)) > 1
    try:
        record = json.loads(line, object_pairs_hook=note if suspected else None)
    except json.JSONDecodeError as error:
        return Problem(f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Problem("not JSON that can be read: it is nested too deeply")
    except ValueError as error:
        return Problem(f"not JSON that can be read: {error}")
    if not isinstance(record, dict):
        return Problem(f"a JSON object is needed, not {_json_type(record)}")
    if suspected and twice[-1]:  # the outermost object is finished last
        return Problem(f"field {quoted(text_field)} occurs more than once", hint="Keep one of them.")
    return record


def _text(record: dict[str, object], text_field: str) -> str | Problem | None:
    if text_field not in record:
        texts = [field for field, value in record.items() if isinstance(value, str)]
        near = nearest(text_field, record) or texts
        hint = f"Set text_field: {shown(near[0])} if that is the text." if near else None
        return Problem(f"no field {quoted(text_field)}; its fields are: {listed(record)}", hint=hint)
    text = record[text_field]
    if text is None:
        return None
    if not isinstance(text, str):
        return Problem(f"field {quoted(text_field)} holds {_json_type(text)}, not text")
    if not text.isascii() and _HALF_A_PAIR.search(text):
        return Problem(f"field {quoted(text_field)} holds half of a surrogate pair, which is not a character")
    return text


def _json_type(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
