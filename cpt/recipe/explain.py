"""Explain pydantic's validation errors in plain words, at their place in the user's data."""

from __future__ import annotations

import re
import types
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cpt.errors import did_you_mean, nearest_hint
from cpt.recipe.document import Where
from cpt.recipe.familiar import hint_for


@dataclass(frozen=True)
class Finding:
    """A mistake in validated data.

    Attributes:
        where: Path to its place, relative to the validated data.
    """

    where: Where
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class _Located:
    """A pydantic error with the branches of unions taken out of its location."""

    where: Where
    branches: tuple[tuple[int, str], ...]  # (depth in `where`, label of the union's branch)
    details: ErrorDetails


def findings(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[Finding]:
    """Return one finding for each mistake that a validation found, in the order of the data."""
    located = [_locate(details, data) for details in error.errors(include_url=False)]
    located = [item for item in located if not _has_enough_items(item)]
    found = [_finding(item, model, data) for item in _one_branch_each(located)]
    misspelt = {item.where[:-1] for item in located if item.details["type"] == "extra_forbidden"}
    kept = [item for item in found if not _explained(item, misspelt, found)]
    return list(dict.fromkeys(kept))


def mistaken_booleans(checked: Any, data: Any, where: Where = ()) -> list[Finding]:
    """Find `true` and `false` where a number is expected: validation silently takes them for 1 and 0.

    Args:
        checked: Result of the validation of `data`.
    """
    if isinstance(data, bool) and isinstance(checked, int | float) and not isinstance(checked, bool):
        return [Finding(where, f"must be a number, not {_shown(data)}")]
    pairs: list[tuple[str | int, Any, Any]] = []
    if isinstance(checked, BaseModel) and isinstance(data, Mapping):
        fields = type(checked).model_fields.items()
        keys = [(name, key) for name, info in fields for key in {info.alias or name, name} if key in data]
        pairs += [(key, getattr(checked, name), data[key]) for name, key in keys]
    elif isinstance(checked, list | tuple) and isinstance(data, list):
        pairs += [(index, *pair) for index, pair in enumerate(zip(checked, data, strict=False))]
    return [found for key, value, raw in pairs for found in mistaken_booleans(value, raw, (*where, key))]


def _explained(item: Finding, misspelt: set[Where], found: list[Finding]) -> bool:
    """Return True for a missing key next to a misspelling or the former name of it: one mistake, not two."""
    if item.message != _MISSING or item.where[:-1] not in misspelt:
        return False
    hints = (f"Did you mean `{item.where[-1]}`?", _renamed_hint(item.where[-1]))
    return any(other.where[:-1] == item.where[:-1] and other.hint in hints for other in found)


def _has_enough_items(item: _Located) -> bool:
    """Return True for a list said to be too short which is so only without its mistaken items.

    Pydantic counts the items that are right. The mistaken ones have problems of their own.
    """
    details = item.details
    if details["type"] != "too_short" or not isinstance(details["input"], Sized):
        return False
    return len(details["input"]) >= details["ctx"]["min_length"]


def _locate(details: ErrorDetails, data: Any) -> _Located:
    where: list[str | int] = []
    branches: list[tuple[int, str]] = []
    location = details["loc"]
    for position, part in enumerate(location):
        last = position == len(location) - 1
        names_key = isinstance(data, Mapping) and (
            part in data or (last and details["type"] in ("missing", "extra_forbidden"))
        )
        if names_key or (isinstance(data, list) and isinstance(part, int)):
            where.append(part)
            data = _inside(data, part)
        else:
            branches.append((len(where), str(part)))
    return _Located(tuple(where), tuple(branches), details)


def _inside(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    return data[part] if isinstance(part, int) and part < len(data) else None


def _one_branch_each(located: list[_Located]) -> Iterator[_Located | list[_Located]]:
    """Yield, of each union, the errors of the branch whose shape fits, or all together if none fits."""
    unions: dict[Where, dict[str, list[_Located]]] = defaultdict(lambda: defaultdict(list))
    for item in located:
        if item.branches:
            depth, label = item.branches[0]
            unions[item.where[:depth]][label].append(item)
    done: set[Where] = set()
    for item in located:
        if not item.branches:
            yield item
            continue
        place = item.where[: item.branches[0][0]]
        if place in done:
            continue
        done.add(place)
        branches = list(unions[place].values())
        fitting = [errors for errors in branches if not any(_misshapen(e, place) for e in errors)]
        if fitting or len(branches) == 1:
            chosen = min(fitting or branches, key=len)
            yield from _one_branch_each([_Located(e.where, e.branches[1:], e.details) for e in chosen])
        else:
            yield [error for errors in branches for error in errors]


def _misshapen(error: _Located, place: Where) -> bool:
    return error.where == place and error.details["type"] not in ("value_error", "assertion_error")


def _finding(item: _Located | list[_Located], model: type[BaseModel], data: Mapping[str, Any]) -> Finding:
    if isinstance(item, list):
        return _no_branch_fits(item, data)
    details = item.details
    kind, context = details["type"], details.get("ctx", {})
    where = item.where
    if kind == "extra_forbidden":
        return _unknown_key(where, model, details["loc"])
    if kind == "missing":
        return Finding(where, _MISSING)
    if kind == "literal_error" or kind == "enum":
        return _not_one_of(where, details["input"], _quoted(str(context["expected"])))
    if kind == "union_tag_invalid":
        where = (*where, context["discriminator"].strip("'"))
        return _not_one_of(where, context["tag"], _quoted(context["expected_tags"]))
    if kind == "union_tag_not_found":
        key = context["discriminator"].strip("'")
        options = [option for cls in _models_at(model, details["loc"]) for option in _literals(cls, key)]
        return Finding((*where, key), _MISSING, _one_of(options))
    return Finding(where, _words(details))


def _no_branch_fits(errors: list[_Located], data: Mapping[str, Any]) -> Finding:
    where = errors[0].where
    value: Any = data
    for part in where:
        value = _inside(value, part)
    words: list[str] = []
    options: list[str] = []
    for error in errors:
        if error.details["type"] == "literal_error":
            options += _quoted(str(error.details.get("ctx", {})["expected"]))
        else:
            words.append(_words(error.details).removeprefix("must be ").split(", not ")[0])
    wanted = " or ".join(dict.fromkeys([*words, *(f"`{option}`" for option in options)]))
    hint = nearest_hint(value, options) if isinstance(value, str) else None
    return Finding(where, f"must be {wanted}, not {_shown(value)}", hint)


def _unknown_key(where: Where, model: type[BaseModel], location: tuple[int | str, ...]) -> Finding:
    key = str(where[-1])
    here = [name for cls in _models_at(model, location[:-1]) for name in _names(cls)]
    for cls in _models_at(model, location[:-1]):
        if renamed := getattr(cls, "renamed_keys", {}).get(key):
            return Finding(where, f"`{key}` is now called `{renamed}`", _renamed_hint(renamed))
    message = f"unknown key `{key}`"
    others = _variants_with(key, model, location[:-1])
    if others:
        return Finding(where, message, f"It is a setting of {others}. {_one_of(here)}")
    if (familiar := hint_for(where)) is not None:
        return Finding(where, message, familiar)
    near = nearest_hint(key, here)
    if near:
        return Finding(where, message, near)
    homes = [path for cls in _models_at(model, location[:-1]) for path in _paths_to(key, cls)]
    return Finding(where, message, f"It belongs under `{homes[0]}`." if homes else did_you_mean(key, here))


def _renamed_hint(name: str | int) -> str:
    return f"Write `{name}` instead."


def _not_one_of(where: Where, value: Any, options: list[str]) -> Finding:
    message = f"unknown value {_shown(value)}"
    hint = did_you_mean(value, options) if isinstance(value, str) else _one_of(options)
    return Finding(where, message, hint)


def _one_of(options: Iterable[str]) -> str | None:
    named = ", ".join(f"`{option}`" for option in dict.fromkeys(options))
    return f"One of {named}." if named else None


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text) or re.split(r",\s*|\s+or\s+", text)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    short = text if len(text) <= 60 else text[:57] + "..."
    return f"`{short}`"


_MISSING = "is missing"

_SHAPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping (key: value lines)",
    "mapping": "a mapping (key: value lines)",
    "model": "a mapping (key: value lines)",
    "model_attributes": "a mapping (key: value lines)",
    "dataclass": "a mapping (key: value lines)",
    "none": "nothing",
}

PATTERNS: dict[str, str] = {
    r"^[a-z][a-z0-9_-]*$": "small letters, digits, - and _, starting with a letter",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, and . _ -, starting with a letter or digit",
}
"""Explanations of the patterns of names."""

_BOUNDS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "needs at least {min_length} item(s)",
    "too_long": "takes at most {max_length} item(s)",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "takes at most {max_length} characters",
    "string_pattern_mismatch": "does not look like {pattern}",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
}


def _words(details: ErrorDetails) -> str:
    """Return the message of an error without pydantic's vocabulary."""
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return f"must be {PATTERNS[context['pattern']]}, not {_shown(value)}"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", details["msg"]))
    if kind in _BOUNDS:
        bound = _BOUNDS[kind].format(**{name: _plain(limit) for name, limit in context.items()})
        return f"{bound}, not {_shown(value)}" if kind[:3] != "too" else bound
    shape = re.sub(r"_(type|parsing|parsing_size)$", "", kind)
    if shape in _SHAPES:
        quote = " (put it in quotes)" if shape == "string" and isinstance(value, int | float) else ""
        return f"must be {_SHAPES[shape]}, not {_shown(value)}{quote}"
    return details["msg"].replace("Input should be", "must be")


def _names(cls: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in cls.model_fields.items()]


def _literals(cls: type[BaseModel], key: str) -> list[str]:
    for name, info in cls.model_fields.items():
        if key in (name, info.alias) and typing.get_origin(info.annotation) is Literal:
            return [str(value) for value in typing.get_args(info.annotation)]
    return []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation mentions: `list[A] | B | None` mentions A and B."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [cls for inner in typing.get_args(annotation) for cls in _models_in(inner)]


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the models that may describe the data at a pydantic location (keys, indices, branch labels)."""
    current = [model]
    for part in location:
        if isinstance(part, int):
            continue
        branches = [cls for cls in current if _is_branch(cls, part)]
        fields = [
            info for cls in current for name, info in cls.model_fields.items() if part in (name, info.alias)
        ]
        if branches and (len(current) > 1 or not fields):
            current = branches
        elif fields:
            current = [cls for info in fields for cls in _models_in(info.annotation)]
    return current


def _variants_with(key: str, model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Name the other variants of a union that have a key which the chosen one lacks: "`infinite`, `wsd`"."""
    label, union = str(location[-1]) if location else "", _models_at(model, location[:-1])
    tag = next((name for cls in union for name in cls.model_fields if label in _literals(cls, name)), None)
    if tag is None:
        return ""
    return ", ".join(f"`{_literals(cls, tag)[0]}`" for cls in union if key in _names(cls))


def _is_branch(cls: type[BaseModel], label: str) -> bool:
    tagged = any(_literals(cls, name) == [label] for name in cls.model_fields)
    return re.search(rf"\b{re.escape(cls.__name__)}\b", label) is not None or tagged


def _paths_to(key: str, cls: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield deeper places in a model where a key exists, for a setting written one level too high."""
    if len(above) > 4:
        return
    for name, info in cls.model_fields.items():
        for inner in _models_in(info.annotation):
            path = (*above, info.alias or name)
            if key in _names(inner):
                yield ".".join(path)
            yield from _paths_to(key, inner, path)


def _plain(limit: Any) -> Any:
    """Return a limit as one writes it: a whole number without ".0"."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
