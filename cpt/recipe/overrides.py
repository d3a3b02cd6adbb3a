"""Apply overrides: `seed=3`, `pretrain.schedule.peak=1e-4`, `corpus.domain.0.path=data/notes.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cpt.errors import Problem, RecipeError, did_you_mean
from cpt.recipe.document import COMMAND_LINE, Document, Where, parse, plain

SETTABLE = ("name", "base", "seed")
"""Top-level keys that an override may set. Every other override starts with a stage's name."""


def apply(document: Document, arguments: Iterable[str], stages: Mapping[str, Where]) -> list[Problem]:
    """Set values in the document. Unknown keys inside a stage are left to the stage's own validation.

    Args:
        arguments: Arguments as typed, `key.key=value` with the value in YAML.
        stages: Name of each stage -> place of its settings in the document.

    Returns:
        Problems of the overrides themselves.
    """
    found = [_apply_one(document, argument, stages) for argument in arguments]
    return [problem for problem in found if problem is not None]


def _apply_one(document: Document, argument: str, stages: Mapping[str, Where]) -> Problem | None:
    path, separator, text = argument.partition("=")
    parts = path.strip().split(".")
    if not separator or not all(parts):
        message = f"`{argument}` is not an override"
        return Problem(message, file=COMMAND_LINE, hint="Write key=value, such as `pretrain.tokens=50_000`.")
    try:
        value = plain(parse(text, COMMAND_LINE))
    except RecipeError as error:
        message = f"the value is {error.problems[0].message}"
        return Problem(message, file=COMMAND_LINE, key=path, hint="Quote it if it is meant as text.")
    first, *rest = parts
    if first in SETTABLE and not rest:
        where: Where = (first,)
    elif first in stages and rest:
        where = stages[first]
    else:
        return _unknown(path, first, rest, stages)
    return _set(document, where, rest, value, path)


def _unknown(path: str, first: str, rest: list[str], stages: Mapping[str, Where]) -> Problem:
    if first in stages:
        message, hint = f"`{first}` is a stage", f"Name one of its settings: `{first}.key=value`."
    elif first in SETTABLE:
        message, hint = f"`{first}` is a single value, it has no `{rest[0]}`", f"Write `{first}=value`."
    elif first == "stages":
        message, hint = "stages are set by their names", "For example `pretrain.tokens=50_000`."
    else:
        message = f"the recipe has no key and no stage `{first}`"
        return Problem(message, file=COMMAND_LINE, key=path, hint=did_you_mean(first, [*SETTABLE, *stages]))
    return Problem(message, file=COMMAND_LINE, key=path, hint=hint)


def _set(document: Document, where: Where, keys: list[str], value: Any, path: str) -> Problem | None:
    """Walk from `where` along `keys`, make mappings where there are none, and set the last key."""
    holder: Any = document.data
    steps = [*where, *keys]
    for depth, key in enumerate(steps):
        at: str | int = key
        if isinstance(holder, list):
            index = _index(str(key), holder)
            if index is None:
                items = f"{len(holder)} item{'' if len(holder) == 1 else 's'}"
                message = f"a list of {items} has no item `{key}`"
                hint = f"Items count from 0 to {len(holder) - 1}." if holder else "Set the whole list."
                return Problem(message, file=COMMAND_LINE, key=path, hint=hint)
            at = index
        elif not isinstance(holder, dict):
            parent = document.key(tuple(steps[:depth]))
            message = f"`{parent}` is a single value ({holder}), it has no `{key}`"
            return Problem(message, file=COMMAND_LINE, key=path, hint=f"Write `{parent}=value`.")
        steps[depth] = at
        if depth == len(steps) - 1:
            holder[at] = value
        else:
            inner = holder.get(at) if isinstance(holder, dict) else holder[at]
            if inner is None:
                inner = holder[at] = {}
            holder = inner
    document.overridden.add(tuple(steps))
    return None


def _index(key: str, items: list[Any]) -> int | None:
    return int(key) if key.isdecimal() and int(key) < len(items) else None
