"""`cpt eval suites`: which suites there are, and what of them can run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.options import Data, Offline
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows

if TYPE_CHECKING:
    from evals.suite import Entry, Level, Suite

LEVELS: tuple[Level, ...] = ("smoke", "quick", "full")


def suites(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Suites to show task by task.")
    ] = None,
    data: Data = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """List the suites; of named ones every task with its data, their licence, and whether it can run here.

    Example: cpt eval suites medical --data DIR --offline
    """
    from evals.catalogue import select
    from evals.catalogue import suites as all_suites

    chosen = [suite for suite, _ in select(names)] if names else list(all_suites().values())
    if names or as_json:
        found = [_facts(suite, data, offline) for suite in chosen]
        return print_json(found) if as_json else _print_tasks(out(), found)
    return _print_suites(out(), chosen)


def _facts(suite: Suite, data: Path | None, offline: bool) -> dict[str, Any]:
    from evals.caches import data_cache
    from evals.local import DataFolder
    from evals.preparation import prepare

    prepared, left_out = prepare([(suite, "full")], data, data_cache(), offline=offline)
    origins = {each.entry.task: each.data for each in prepared}
    reasons = {each.task: each.why for each in left_out}
    folder = None if data is None else DataFolder(data)
    return {
        "name": suite.name,
        "about": suite.about,
        "levels": {level: _level(suite, level) for level in LEVELS},
        "tasks": [
            {
                **entry.model_dump(),
                "runs": entry.task in origins,
                "data": origins.get(entry.task),
                "why_not": reasons.get(entry.task),
                **_data(entry, folder),
            }
            for entry in suite.tasks
        ],
    }


def _level(suite: Suite, level: Level) -> dict[str, int | None]:
    """Tasks of a level, and the most items that they take together; None for all that the data have."""
    items = [entry.items(level) for entry in suite.at(level)]
    return {"tasks": len(items), "items": sum(n for n in items if n is not None) if level != "full" else None}


def _data(entry: Entry, folder: Any) -> dict[str, Any]:
    """The data set in its local form: whose it is, and the files with their checksums."""
    from evals.local import file_checksum
    from evals.preparation import source_of

    local = source_of(entry)
    if local is None:
        return {"title": None, "licence": None, "origin": None, "files": {}, "looked_for": []}
    source, part = local
    files = folder.find(source, part).files.values() if folder is not None else ()
    return {
        "title": source.title,
        "licence": source.licence,
        "origin": source.origin,
        "files": {str(file): file_checksum(file) for file in files},
        "looked_for": list(source.endings(part).values()),
    }


def _print_suites(console: Console, chosen: Sequence[Suite]) -> None:
    table = rows("suite", *(f"{level}#" for level in LEVELS), "about")
    for suite in chosen:
        table.add_row("", suite.name, *(_size(_level(suite, level)) for level in LEVELS), suite.about)
    console.print(table)
    console.print("Items/tasks of each level. `cpt eval suites NAME --data DIR` shows the tasks.")


def _size(level: Mapping[str, int | None]) -> str:
    return f"{level['tasks']}" if level["items"] is None else f"{level['items']:,}/{level['tasks']}"


def _print_tasks(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    for suite in found:
        console.print(Text.assemble((suite["name"], "bold"), f"  {suite['about']}"), soft_wrap=True)
        table = rows("task", "metric", "group", "smoke#", "quick#", "data", "licence")
        for task in suite["tasks"]:
            sizes = ("" if task[level] is None else f"{task[level]:,}" for level in ("smoke", "quick"))
            data = Text(task["data"]) if task["runs"] else Text("left out", style="yellow")
            table.add_row(
                "", task["task"], task["metric"], task["group"] or "", *sizes, data, task["licence"] or ""
            )
        console.print(table)
        reasons: dict[str, list[str]] = {}
        for task in suite["tasks"]:
            if not task["runs"]:
                reasons.setdefault(task["why_not"], []).append(task["task"])
        for why, tasks in reasons.items():
            console.print(Text(f"  left out: {', '.join(tasks)}: {why}", style="dim"), soft_wrap=True)
