"""Write docs/recipe: for every key of a recipe its type, default and meaning, one page for each stage.

    python docs/recipe_reference.py

All of it comes from the stages' pydantic models.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

sys.path.insert(0, str(Path(__file__).parent))

from recipe_keys import CHOOSERS, KIND, TOP, Key, all_keys

FOLDER = Path(__file__).parent / "recipe"

_FIRST = re.compile(r"(\w+)(.*)")
"""Matches a key: its first name, and the variant and names below it."""
_HEAD = ("| Key | Value | Default | Meaning |", "|---|---|---|---|")

SETTINGS = "settings"
"""Word for a value that has keys of its own."""
_WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Any: "value",
}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_ABOUT = {
    TOP: "Keys at the top of a recipe.",
    "corpus": "Text becomes training sequences ([corpus](../corpus.md)).",
    "hypernetwork": "A hypernetwork is trained ([training a hypernetwork](../hypernetwork.md)).",
    "vocabulary": "A model's tokens are changed ([vocabulary and tokenizers](../tokenizers.md)).",
    "pretrain": "A model is trained ([training](../training.md)).",
    "merge": "Models are merged, by weights or a search of them ([merging](../merging.md)).",
    "evaluate": "Models are compared on text and tasks ([evaluation](../evaluation.md)).",
    "report": "The page and its facts are written.",
}
"""First sentence of each page."""


def pages() -> dict[str, str]:
    """Return the pages in Markdown by the kind of their stage."""
    keys = groupby(all_keys(), lambda key: key.path.split(".")[0])
    return {kind: _page(kind, list(group)) for kind, group in keys}


def _page(kind: str, keys: Sequence[Key]) -> str:
    """Return a page: a table of the stage's keys, then one for each key that has keys of its own."""
    title = "The recipe itself" if kind == TOP else f"Keys of `{kind}`"
    lines = [
        f"# {title}",
        "",
        f"{_ABOUT[kind]} Written by `python docs/recipe_reference.py` from the settings' declarations.",
        "A name in brackets is a variant that `kind`, `method` or `action` chooses: `schedule[wsd].peak`",
        "is set by `schedule: {kind: wsd, peak: 1e-4}`. What several keys hold is listed at the first one.",
    ]
    tables: dict[str, list[tuple[str, Key]]] = {"": []}
    for key in keys:
        if not chooses(key.field, key.name):
            first, inner = _FIRST.fullmatch(key.path.split(".", 1)[1]).groups()  # type: ignore[union-attr]
            table, name = (first, inner.removeprefix(".")) if inner else ("", first)
            tables.setdefault(table, []).append((name, key))
    for heading, rows in tables.items():
        lines += ["", *([f"## {heading}", ""] if heading else []), *_HEAD]
        for name, key in rows:
            words = value(key.field)
            if not heading and name in tables:
                words = words.replace(SETTINGS, f"[{SETTINGS}](#{name})")
            cells = (f"`{name}`", words, default(key.field), _meaning(key.field))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def chooses(field: FieldInfo, name: str) -> bool:
    """Return True for a key whose one value names the variant that it stands in."""
    return name in CHOOSERS and len(typing.get_args(field.annotation)) == 1


def value(field: FieldInfo) -> str:
    """Return the type of a key's value in words, with its bounds."""
    words = _type(field.annotation)
    found = bounds(field.metadata)
    return f"{words}, {found}" if found else words


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        words, found = _type(arguments[0]), bounds(arguments[1:])
        return f"{words}, {found}" if found else words
    if origin in (typing.Union, types.UnionType):
        parts = dict.fromkeys(_type(each) for each in arguments if each is not type(None))
        return " or ".join(parts)
    if origin is typing.Literal:
        return ", ".join(f"`{_plain(each)}`" for each in arguments)
    if origin in (tuple, list, set, frozenset, Sequence):
        if origin is tuple and len(arguments) > 1 and arguments[1] is not Ellipsis:
            return f"[{', '.join(map(_type, arguments))}]"
        return f"list of {_type(arguments[0])}"
    if origin in (dict, Mapping):
        return f"mapping of names to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return SETTINGS
    return _WORDS.get(annotation, "value")


def bounds(metadata: Sequence[Any]) -> str:
    """Return the bounds among a declaration's metadata: "≥ 0, < 1"."""
    return ", ".join(_bounds(metadata))


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _bounds(each.metadata)
        for name, sign in _SIGNS.items():
            if (limit := getattr(each, name, None)) is not None:
                yield f"{sign} {limit:,}" if isinstance(limit, int) else f"{sign} {limit}"


def default(field: FieldInfo) -> str:
    """Return the default of a key as YAML has it; "needed" if there is none."""
    if field.is_required():
        return "**needed**"
    made = field.get_default(call_default_factory=not field.default_factory_takes_validated_data)
    if made is None or made is PydanticUndefined:
        return ""
    if isinstance(made, BaseModel):
        kind = getattr(made, KIND, None)
        return f"`{kind}`" if isinstance(kind, str) else ""
    return f"`{_plain(made)}`"


def _plain(found: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, BaseModel):
        return _plain(found.model_dump(exclude_unset=True))
    if isinstance(found, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(each)}" for key, each in found.items()) + "}"
    if isinstance(found, tuple | list | set | frozenset):
        return "[" + ", ".join(map(_plain, found)) + "]"
    return "null" if found is None else str(found).replace("e-0", "e-")


def _meaning(field: FieldInfo) -> str:
    return re.sub(r"\s+", " ", field.description or "").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for kind, text in (made := pages()).items():
        (FOLDER / f"{kind}.md").write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {FOLDER} are up to date")
