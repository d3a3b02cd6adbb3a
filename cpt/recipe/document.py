"""Read a recipe file as plain data, with the line of every key."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from cpt.errors import Problem, RecipeError

Where = tuple[str | int, ...]
"""Path into the data: ("stages", 2, "pretrain", "schedule", "peak")."""

COMMAND_LINE = "command line"

MOST_CHARACTERS = 200_000
MOST_VALUES = 100_000
DEEPEST = 50
"""Limits of a YAML file: characters, values with aliases expanded, levels.

A recipe has some thousand characters. Reading 100,000 takes about two seconds.
"""

_BRACKETS = re.compile(r"[\[{](?:\s*[\[{]){200}")
"""Matches 200 open brackets in a row: ruamel needs ten seconds to find that too deep."""


@dataclass
class Document:
    """The data of a recipe, with the place where each part of it was written.

    Attributes:
        file: Path of the file as the user named it, for messages.
        folder: Folder in which relative references start.
        overridden: Paths of the parts that the command line set.
    """

    file: str
    folder: Path
    data: dict[str, Any]
    lines: dict[Where, int] = field(default_factory=dict)
    overridden: set[Where] = field(default_factory=set)

    def problem(self, where: Where, message: str, hint: str | None = None) -> Problem:
        """Return a problem at a place of the data, with its file and line or the command line."""
        key = self.key(where) or None
        if any(where[: len(changed)] == changed for changed in self.overridden):
            return Problem(message, file=COMMAND_LINE, key=key, hint=hint)
        around = (where[:length] for length in range(len(where), 0, -1))
        line = next((self.lines[place] for place in around if place in self.lines), None)
        return Problem(message, file=self.file, line=line, key=key, hint=hint)

    def key(self, where: Where) -> str:
        """Return a place as a user writes it in an override: `pretrain.schedule.peak`."""
        if len(where) >= 3 and where[0] == "stages":
            settings = lookup(self.data, where[:3])
            name = settings.get("name") if isinstance(settings, dict) else None
            if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", name):
                return ".".join(str(part) for part in (name, *where[3:]))
            where = where[2:]
        return ".".join(str(part) for part in where)


def lookup(data: Any, where: Where) -> Any:
    """Return the value at a place of plain data, or None if there is none."""
    for part in where:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def read(path: Path) -> Document:
    """Read a recipe file.

    Raises:
        RecipeError: The file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    content = parse(read_text(path), str(path))
    if content is None:
        raise RecipeError([Problem("the recipe is empty", file=str(path), hint="`cpt init` writes one.")])
    if not isinstance(content, CommentedMap):
        message = "a recipe is a list of `key: value` lines: name, base, seed, stages"
        raise RecipeError([Problem(message, file=str(path), line=1)])
    document = Document(file=str(path), folder=path.parent, data={})
    problems: list[Problem] = []
    document.data = _plain(content, (), document, problems)
    if problems:
        raise RecipeError(problems)
    return document


def parse(text: str, source: str) -> Any:
    """Parse YAML 1.2 text into ruamel's round-trip data.

    Raises:
        RecipeError: The text has a mistake (with its line), or is too large for a recipe.
    """
    if len(text) > MOST_CHARACTERS:
        message = f"{len(text):,} characters; a recipe has at most {MOST_CHARACTERS:,}"
        raise RecipeError([Problem(message, file=source, hint=_TOO_LARGE)])
    if _BRACKETS.search(text):
        raise RecipeError([Problem(_TOO_DEEP, file=source)])
    try:
        content = YAML().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise RecipeError([Problem(*_yaml_mistake(error, source, line))]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        message = "a character that YAML does not allow (a control character)"
        raise RecipeError([Problem(message, file=source, line=line)]) from None
    except RecursionError:
        raise RecipeError([Problem(_TOO_DEEP, file=source)]) from None
    except (YAMLError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError([Problem(f"not valid YAML: {first}", file=source)]) from None
    _require_bounded(content, source)
    return content


_BYTES = 4
"""Largest number of bytes of a character in UTF-8."""

_TOO_LARGE = "Name data in files of its own; a recipe holds settings."
_TOO_DEEP = f"nested more than {DEEPEST} levels deep"


def _require_bounded(content: Any, source: str) -> None:
    """Raise if there are too many values, with aliases expanded, or too many levels."""
    values, left = 0, [(content, 0)]
    while left:
        value, depth = left.pop()
        values += 1
        if depth > DEEPEST:
            raise RecipeError([Problem(_TOO_DEEP, file=source, hint="Is an alias inside what it names?")])
        if values > MOST_VALUES:
            message = f"more than {MOST_VALUES:,} values, with what aliases (`*name`) stand for"
            raise RecipeError([Problem(message, file=source, hint=_TOO_LARGE)])
        if isinstance(value, CommentedMap):
            left += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, CommentedSeq):
            left += [(item, depth + 1) for item in value]


def plain(value: Any) -> Any:
    """Return round-trip data as plain Python data, without line numbers."""
    return _plain(value, (), None, [])


def read_text(path: Path) -> str:
    """Read the text of a YAML file.

    Raises:
        RecipeError: The file is missing, unreadable, too large, or not UTF-8.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            message, hint = "is no regular file", "Write the recipe into a file."
            raise RecipeError([Problem(message, file=str(path), hint=hint)])
        if path.stat().st_size > _BYTES * MOST_CHARACTERS:
            message = f"{path.stat().st_size:,} bytes; a recipe has at most {MOST_CHARACTERS:,} characters"
            raise RecipeError([Problem(message, file=str(path), hint=_TOO_LARGE)])
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        message, hint = "there is no such file", "`cpt init` writes a recipe to start from."
    except IsADirectoryError:
        message, hint = "is a folder, not a recipe", "Name the YAML file in it."
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        hint = "Save the file as UTF-8."
        raise RecipeError([Problem("is not UTF-8 text", file=str(path), line=line, hint=hint)]) from None
    except OSError as error:
        message, hint = f"cannot be read: {error.strerror}", "Check the path and its permissions."
    raise RecipeError([Problem(message, file=str(path), hint=hint)])


def _yaml_mistake(error: MarkedYAMLError, source: str, line: int | None) -> tuple[Any, ...]:
    """Return the arguments of the `Problem` (message, file, line, key, hint) for a syntax mistake."""
    problem = str(error.problem or error.context or "not valid YAML").strip()
    if problem.startswith("found duplicate key"):
        key = problem.split('"')[1] if '"' in problem else None
        return (f"`{key}` is given twice", source, line, key, "Keep one of the two.")
    hint = None
    if "mapping values are not allowed" in problem:
        hint = "Put text that contains `: ` in quotes, and check the indentation."
    elif "\\t" in problem:
        hint = "Indent with spaces, not tabs."
    elif "another document" in problem:
        hint = "A recipe is one YAML document: remove the `---` in the middle."
    return (f"not valid YAML: {problem}", source, line, None, hint)


def _plain(value: Any, where: Where, document: Document | None, problems: list[Problem]) -> Any:
    if isinstance(value, CommentedMap):
        mapping: dict[str, Any] = {}
        for key, item in value.items():
            name = key if isinstance(key, str) else str(plain(key))
            if document is not None and key in (value.lc.data or {}):
                document.lines[(*where, name)] = value.lc.key(key)[0] + 1
            mapping[name] = _plain(item, (*where, name), document, problems)
        return mapping
    if isinstance(value, CommentedSeq):
        sequence = []
        for index, item in enumerate(value):
            if document is not None and index in (value.lc.data or {}):
                document.lines[(*where, index)] = value.lc.item(index)[0] + 1
            sequence.append(_plain(item, (*where, index), document, problems))
        return sequence
    if isinstance(value, TaggedScalar):
        problems.append(_misuse(document, where, f"the tag `{value.tag.value}` is not understood here"))
        return None
    return _scalar(value)


def _misuse(document: Document | None, where: Where, message: str) -> Problem:
    return document.problem(where, message) if document is not None else Problem(message)


def _scalar(value: Any) -> Any:
    if isinstance(value, bool | ScalarBoolean):
        return bool(value)
    for simple in (int, float, str):
        if isinstance(value, simple):
            return simple(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    return value
