"""Read one JSON object per line, optionally compressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cpt.corpus.documents import Item, data_error
from cpt.corpus.readers.files import ReadFiles, decode, open_bytes, quoted, read_lines
from cpt.corpus.readers.records import Fields, SeenFields, json_type
from cpt.errors import Problem

_MOST_PROBLEMS = 10


def read_jsonl(path: Path, name: str, fields: Fields, files: ReadFiles | None = None) -> Iterator[Item]:
    """Yield one document per line. Blank lines are skipped, a null text is removed as "empty".

    Args:
        name: Prefix of the documents' ids; the line number follows.
        fields: Fields that are read.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file has problems; the first ten at most, each with its line.
        OSError: The compressed stream is damaged or truncated.
    """
    problems: list[Problem] = []
    seen = SeenFields(fields)
    with open_bytes(path, files) as stream:
        for number, line in enumerate(read_lines(stream, path), start=1):
            decoded = decode(line.rstrip(), path, number)
            del line  # a long line is never held in more copies than needed
            found = _item(decoded, number, path, name, fields, seen)
            del decoded
            if isinstance(found, Problem):
                problems.append(found)
            elif found is not None and not problems:
                yield found
            del found
            if len(problems) == _MOST_PROBLEMS:
                problems.append(Problem("further lines were not looked at", file=str(path)))
                break
    if not problems and (unseen := seen.problem()) is not None:
        problems.append(Problem(unseen.message, file=str(path)))
    if problems:
        raise data_error(problems)


def _item(
    line: str | Problem, number: int, path: Path, name: str, fields: Fields, seen: SeenFields
) -> Item | Problem | None:
    if isinstance(line, Problem):
        return line
    if not line or line.isspace():
        return None
    if line[-1].isspace():  # white space beyond ASCII
        line = line.rstrip()
    record = _record(line, fields.all)
    if not isinstance(record, Problem):
        seen.add(record)
    found = record if isinstance(record, Problem) else fields.item(f"{name}:{number}", record)
    if isinstance(found, Problem):
        return Problem(found.message, file=str(path), line=number, hint=found.hint)
    return found


def _record(line: str, wanted: list[str]) -> dict[str, object] | Problem:
    """Parse a line. Only a duplicated field that is read is a problem, since it would lose a value."""
    twice: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        twice[:] = [field for field in wanted if keys.count(field) > 1]
        return dict(pairs)

    suspected = any(line.count(json.dumps(field, ensure_ascii=False)) > 1 for field in wanted)
    try:
        record = json.loads(line, object_pairs_hook=note if suspected else None)
    except json.JSONDecodeError as error:
        return Problem(f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Problem("not JSON that can be read: it is nested too deeply")
    except ValueError as error:
        return Problem(f"not JSON that can be read: {error}")
    if not isinstance(record, dict):
        return Problem(f"a JSON object is needed, not {json_type(record)}")
    if twice:  # the outermost object is finished last
        return Problem(f"field {quoted(twice[0])} occurs more than once", hint="Keep one of them.")
    return record
