"""Print results of commands: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cpt.errors import CptError, Problem, RecipeError
from cpt.escaping import escape_controls
from cpt.formatting import plural

_PIPED_WIDTH = 140


def print_json(data: Any) -> None:
    """Print one JSON document on standard output."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(escape_controls(text) + "\n")


class _Safe(Console):
    """A console that makes control characters in printed data visible; rich's own pass."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(_safe, objects), **options)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


class _SafeTable(Table):
    """A table that makes control characters visible, with columns of the resulting width."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_safe, cells), **options)


def _safe(cell: Any) -> Any:
    """Return a text with visible control characters; return other objects unchanged."""
    if isinstance(cell, str):
        return escape_controls(cell)
    if isinstance(cell, Text) and (shown := escape_controls(cell.plain)) != cell.plain:
        return Text(shown, cell.style, justify=cell.justify, overflow=cell.overflow, no_wrap=cell.no_wrap)
    return cell


def out() -> Console:
    """Return the console for results (standard output), without markup in texts."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return _Safe(highlight=False, markup=False, emoji=False, width=width)


def err() -> Console:
    """Return the console for progress and errors (standard error)."""
    return _Safe(stderr=True, highlight=False, markup=False, emoji=False)


def rows(*columns: str, indent: int = 2) -> Table:
    """Return a borderless table with dim headings; a heading that ends in `#` aligns right."""
    table = _SafeTable(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(columns), header_style="dim"
    )
    if indent:
        table.add_column("", width=indent - 2 if indent > 2 else 0)
    for column in columns:
        right = column.endswith("#")
        table.add_column(column.rstrip("#"), justify="right" if right else "left", overflow="fold")
    return table


def explain(error: CptError, as_json: bool) -> int:
    """Print an error, and return its exit code."""
    problems = error.problems if isinstance(error, RecipeError) else []
    console = err()
    if problems:
        summary = plural(len(problems), "problem")
        console.print(Text.assemble(("error", "bold red"), f": {summary}"))
        for problem in problems:
            console.print(_problem(problem), soft_wrap=True)
    else:
        summary = error.message
        console.print(Text.assemble(("error", "bold red"), f": {error.message}"), soft_wrap=True)
        if error.hint:
            console.print(Text(f"  {error.hint}", style="cyan"), soft_wrap=True)
    if as_json:
        print_json({"error": summary, "hint": error.hint, "problems": [asdict(each) for each in problems]})
    return error.exit_code


def _problem(problem: Problem) -> Text:
    place = problem.file or ""
    if problem.line is not None:
        place += f":{problem.line}"
    text = Text("  ")
    text.append(f"{place}: " if place else "", style="dim")
    text.append(f"{problem.key}: " if problem.key else "", style="bold")
    text.append(problem.message)
    if problem.hint:
        text.append(f"\n      {problem.hint}", style="cyan")
    return text


COLOURS = {
    "run": "cyan",
    "stale": "yellow",
    "cached": "green",
    "skipped": "dim",
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "yellow",
    "damaged": "red",
    "waiting": "dim",
}


def coloured(text: str) -> Text:
    """Return a state or an action in its colour."""
    return Text(text, style=COLOURS.get(text, ""))
