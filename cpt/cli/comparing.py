"""`cpt report RUN RUN`: several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from cpt.cli.output import out, print_json, rows
from cpt.errors import UsageError
from cpt.formatting import duration
from cpt.recipe.settings import differing, settings_of
from cpt.report.comparison.gather import find_runs, reported

if TYPE_CHECKING:
    from cpt.recipe.journal import Run
    from cpt.report.comparison.schema import ComparedProbe, Comparison, RunRow

PAGE = "comparison.html"


def compare_runs(names: Sequence[str], root: Path, page: Path | None, as_json: bool) -> None:
    """Compare runs on a page (with --json, only if it is given a file), and print what came out."""
    target = page or root / PAGE
    comparison = compared(find_runs(root, names), target.parent)
    if page is not None or not as_json:
        write_page(comparison, target)
    if as_json:
        return print_json(comparison.model_dump(mode="json"))
    return _print_comparison(out(), comparison, target)


def compared(runs: Sequence[Run], beside: Path) -> Comparison:
    """The facts of a comparison.

    Args:
        beside: folder of the page that will show them.

    Raises:
        RecipeError: for all runs of which nothing is known that could be compared.
    """
    from cpt import stages
    from cpt.report.comparison.facts import compare

    known = reported(runs, beside)
    recipes = {
        each.name: settings_of(run.data.get("recipe") or {}, stages.stages())
        for each, run in zip(known, runs, strict=True)
    }
    settings = [setting for setting in differing(recipes) if setting.key != "name"]
    return compare(known, settings, datetime.now(UTC).isoformat(timespec="seconds"))


def write_page(comparison: Comparison, target: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        UsageError: there is no such folder.
    """
    from cpt.atomic import write_text
    from cpt.report.comparison.page import render

    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="Make it first.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint=f"Name a file: {target / PAGE}.")
    write_text(target, render(comparison))


def _print_comparison(console: Console, comparison: Comparison, target: Path) -> None:
    console.print(Text(comparison.verdict, style="bold"))
    table = rows("run", "domain#", "general#", "depth#", "recovery#", "tokens#", "took#", "")
    for row in comparison.runs:
        table.add_row("", *_cells(row))
    console.print(table)
    for note in comparison.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    console.print(f"Comparison: {target}", soft_wrap=True)


def _cells(row: RunRow) -> list[str | Text]:
    from cpt.formatting import signed

    domain, general = row.probes.get("domain"), row.probes.get("general")
    depth = signed(general.depth) if general and general.depth is not None else ""
    place = {True: Text("on the front", style="green"), False: Text("beaten", style="dim"), None: Text("")}
    cells: list[str | Text] = [row.name, _change(domain), _change(general), depth, _recovery(general)]
    return [*cells, f"{row.trained:,}", duration(row.seconds), place[row.on_front]]


def _change(probe: ComparedProbe | None) -> Text:
    from cpt.formatting import signed

    if probe is None or probe.change is None:
        return Text("")
    style = "dim" if probe.apart else "green" if probe.change.value <= 0 else "yellow"
    return Text(signed(probe.change.value), style=style)


def _recovery(probe: ComparedProbe | None) -> str:
    from cpt.report.comparison.summary_text import recovery

    return recovery(probe) if probe else ""
