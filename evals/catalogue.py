"""The suites there are, and which of them a command line names."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpt.errors import Problem, UsageError
from evals.suite import LEVELS, SUITES, Level, Suite

DEFAULT_LEVEL: Level = "quick"


@functools.cache
def suites() -> Mapping[str, Suite]:
    """The suites of this package, by name."""
    return {name: read_suite(file) for name, file in _files().items()}


@functools.cache
def _files() -> Mapping[str, Path]:
    """The files of this package's suites, which are called as the suites are."""
    return {file.stem: file for file in sorted(SUITES.glob("*.yaml"))}


def read_suite(file: Path) -> Suite:
    """A suite of a file.

    Raises:
        UsageError: names the file and everything that is wrong in it.
    """
    try:
        raw: Any = YAML(typ="safe").load(file)
        return Suite.model_validate(raw)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UsageError(str(Problem(f"cannot be read as YAML: {error}", file=str(file)))) from None
    except ValidationError as error:
        problems = (
            Problem(found["msg"], file=str(file), key=".".join(map(str, found["loc"])) or None)
            for found in error.errors()
        )
        raise UsageError("\n".join(map(str, problems))) from None


def select(wanted: Iterable[str]) -> list[tuple[Suite, Level]]:
    """Suites as a user names them.

    Args:
        wanted: `NAME`, `NAME:LEVEL`, or a suite file in place of the name; the level is `quick` if not said.

    Raises:
        UsageError: says of every name that is wrong what there is instead.
    """
    chosen: list[tuple[Suite, Level]] = []
    problems: list[str] = []
    for text in wanted:
        try:
            chosen.append(_one(text))
        except UsageError as error:
            problems.append(str(error))
    names = [suite.name for suite, _ in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"suite `{name}` is named more than once; give each suite one level" for name in twice]
    if problems:
        raise UsageError("\n".join(problems))
    return chosen


def _one(text: str) -> tuple[Suite, Level]:
    name, level = _divided(text)
    known = _files()
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise UsageError(f"there is no suite `{name}`", hint=_instead(name, list(known)))
    suite = read_suite(known.get(name, Path(name)))
    if not suite.at(level):
        raise UsageError(
            f"suite `{suite.name}` has no task at level {level}",
            hint=f"Give its tasks `{level}`, the number of items, or evaluate all items: {name}:full.",
        )
    return suite, level


def _divided(text: str) -> tuple[str, Level]:
    name, colon, level = text.rpartition(":")
    if not colon:
        return text, DEFAULT_LEVEL
    for known in LEVELS:
        if level == known:
            return name, known
    raise UsageError(f"`{text}`: there is no level `{level}`", hint=_instead(level, LEVELS))


def _instead(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word.lower(), known, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    return f"{meant}There are: {', '.join(known)}."
