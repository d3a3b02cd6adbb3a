"""Read and write the JSON files of runs: depth bounded, shape checked, the file named in every error."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from cpt.atomic import write_text
from cpt.errors import DamagedFile
from cpt.escaping import escape_controls

REMAKE = "Make it again: run the stage that wrote it with --force STAGE."


def read_json(path: Path, shape: Any, hint: str = REMAKE) -> Any:
    """Read a JSON file as an object of a type.

    Args:
        shape: Type that the content must have, without conversions: a model, `dict[str, float]`.
        hint: Remedy that the error names.

    Raises:
        DamagedFile: The file is missing or unreadable, or its content is no JSON or has another shape.
    """
    try:
        return _adapter(shape).validate_json(read_bytes(path, hint), strict=True)
    except ValidationError as error:
        raise DamagedFile(path, _reason(error), hint=hint) from None


def read_plain(path: Path, shape: Any, hint: str = REMAKE) -> Any:
    """Read a JSON file of a shape as plain data, including fields that the shape does not name.

    Raises:
        DamagedFile: As of `read_json`.
    """
    read_json(path, shape, hint)
    return from_json(path.read_bytes())


def read_rows(path: Path, shape: Any, hint: str = REMAKE) -> list[dict[str, Any]]:
    """Read a file of JSON lines of one shape as plain data.

    Raises:
        DamagedFile: As of `read_json`, with the line.
    """
    return parse_rows(read_bytes(path, hint), shape, path, hint)


def parse_rows(
    content: bytes, shape: Any, path: Path, hint: str = REMAKE, first_line: int = 1
) -> list[dict[str, Any]]:
    """Parse JSON lines as plain data.

    Args:
        first_line: Number of the content's first line in the file.

    Raises:
        DamagedFile: A line is no JSON or has another shape; names it.
    """
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), first_line) if line.strip()]
    whole = b"[" + b",".join(line for _, line in lines) + b"]"
    try:  # all at once: half the time of line by line
        if len(_adapter(list[shape]).validate_json(whole, strict=True)) == len(lines):
            return list(from_json(whole))
    except ValidationError:
        pass
    rows = []
    for number, line in lines:
        try:
            _adapter(shape).validate_json(line, strict=True)
        except ValidationError as error:
            raise DamagedFile(path, _reason(error), line=number, hint=hint) from None
        rows.append(from_json(line))
    return rows


def read_bytes(path: Path, hint: str = REMAKE) -> bytes:
    """Read a regular file.

    Raises:
        DamagedFile: It is missing, unreadable, or no regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise DamagedFile(path, "this is no file", hint=hint)
        return path.read_bytes()
    except FileNotFoundError:
        raise DamagedFile(path, "the file is missing", hint=hint) from None
    except OSError as error:
        raise DamagedFile(path, f"cannot be read: {error.strerror or error}", hint=hint) from None


@lru_cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"this is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    place = ".".join(map(str, first["loc"]))
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"not of the form that cpt writes: {f'{place}: ' if place else ''}{message}"


_HALVES = re.compile("[\ud800-\udfff]")
"""Matches Python's stand-in for a byte that is not UTF-8, which a file cannot hold."""


def write_json(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all."""
    text = _HALVES.sub("\ufffd", json.dumps(data, indent=2, ensure_ascii=False))
    write_text(path, escape_controls(text) + "\n")


def read_or_none(path: Path, shape: Any) -> Any:
    """Read a note that a run can do without; return None if it is missing or damaged."""
    try:
        return read_json(path, shape)
    except DamagedFile:
        return None
