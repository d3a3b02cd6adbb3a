"""Define `cpt clean`: remove what runs no longer use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cpt.cli.options import DEFAULT_RUNS, Json, Runs, run_names
from cpt.cli.output import out, print_json, rows
from cpt.formatting import size
from cpt.recipe.journal import Run, find_run
from cpt.recipe.journal import runs as all_runs
from cpt.recipe.leftovers import Leftover, freed_bytes, leftovers, remove


def clean(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Name or folder of a run. Default: all runs.", autocompletion=run_names
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", metavar="", help="Remove them; else only list.")
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Remove what runs no longer use: older results, abandoned attempts, unfinished writes.

    Results of a run's last command stay, and attempts that it left to be continued. Without --yes nothing is
    removed. A file that another run uses too takes no space and is not counted.

    Example: cpt clean medical --yes
    """
    named = [find_run(runs, name) for name in run] if run else all_runs(runs)
    chosen = list({each.folder.resolve(): each for each in named}.values())
    skipped = {each.name: reason for each in chosen if (reason := _reason(each))}
    able = [each for each in chosen if each.name not in skipped]
    found = [left for each in able for left in leftovers(each)]
    freed = {each.folder: freed_bytes([each]) for each in found}
    total = freed_bytes(found)
    if yes:
        found = [left for each in able for left in remove(each)]
    if as_json:
        return print_json(
            {
                "removed": yes,
                "bytes": total,
                "leftovers": [
                    {
                        "run": each.run,
                        "folder": str(each.folder),
                        "kind": each.kind,
                        "bytes": freed[each.folder],
                    }
                    for each in found
                ],
                "skipped": skipped,
            }
        )
    return _print(found, freed, total, skipped, yes)


def _reason(run: Run) -> str:
    """Return why a run is left alone; nothing if it is not."""
    if run.problem:
        return f"its run.json is damaged: {run.problem}"
    return "it is being run" if run.store.locked() else ""


def _print(
    found: list[Leftover], freed: dict[Path, int], total: int, skipped: dict[str, str], removed: bool
) -> None:
    console = out()
    if found:
        table = rows("run", "folder", "what", "size#")
        for each in found:
            table.add_row("", Text(each.run), Text(each.folder.name), each.kind, size(freed[each.folder]))
        console.print(table)
    for name, reason in skipped.items():
        console.print(Text(f"{name}: left alone, {reason}"), soft_wrap=True)
    if not found:
        console.print("Nothing to remove.")
    elif removed:
        console.print(f"Removed: {size(total)} are free again.")
    else:
        console.print(f"{size(total)} could be free. Nothing was removed: add --yes.")
