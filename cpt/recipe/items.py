"""The list under `stages:`: each item's kind, name and settings, before any of it is validated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cpt.errors import Problem
from cpt.recipe.document import Document, Where
from cpt.recipe.schema import RESERVED
from cpt.recipe.suggest import did_you_mean


@dataclass(frozen=True)
class Item:
    """A stage as written. `where` is the place of its settings: ("stages", 2, "pretrain")."""

    where: Where
    kind: str
    name: str
    settings: dict[str, Any]
    known: bool


def read_items(document: Document, kinds: Collection[str]) -> tuple[list[Item], list[Problem]]:
    """Find the stages; `- report` and `- report:` become `- report: {}` in the document."""
    entries = document.data.get("stages")
    items: list[Item] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        found = _read_item(document, index, entry, kinds)
        if isinstance(found, Item):
            items.append(found)
            if not found.known:
                hint = did_you_mean(found.kind, kinds)
                problems.append(document.problem(found.where, "there is no such kind of stage", hint))
        else:
            problems.append(found)
    return items, problems


def name_problems(document: Document, items: list[Item]) -> list[Problem]:
    """Names given twice, and names that mean something else."""
    problems = []
    seen: dict[str, Item] = {}
    for item in items:
        if item.name in RESERVED:
            message = f"a stage cannot be called `{item.name}`: the word means something else in a recipe"
            problems.append(document.problem((*item.where, "name"), message, "Choose another name."))
        elif item.name in seen:
            line = document.problem(seen[item.name].where, "").line
            message = f"a second stage called `{item.name}`; the first is on line {line}"
            hint = f"Give it a name of its own, such as `name: {item.name}-2`."
            problems.append(document.problem(item.where, message, hint))
        seen.setdefault(item.name, item)
    return problems


def _read_item(document: Document, index: int, entry: Any, kinds: Collection[str]) -> Item | Problem:
    here: Where = ("stages", index)
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or not entry:
        message = "a stage is written as `- kind: settings`"
        return document.problem(here, message, "For example `- report: {}`.")
    if len(entry) > 1:
        kind = next((key for key in entry if key in kinds), next(iter(entry)))
        others = ", ".join(f"`{key}`" for key in entry if key != kind)
        message = f"{others} stand beside `{kind}`, not under it"
        return document.problem(here, message, f"Indent the settings of `{kind}` two spaces further.")
    ((kind, settings),) = entry.items()
    where = (*here, kind)
    document.data["stages"][index] = {kind: {} if settings is None else settings}
    settings = document.data["stages"][index][kind]
    if not isinstance(settings, dict):
        message = f"the settings of `{kind}` are not a mapping (key: value lines)"
        return document.problem(where, message)
    name = settings.get("name")
    return Item(where, kind, name if isinstance(name, str) else kind, settings, kind in kinds)
