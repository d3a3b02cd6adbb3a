"""Define `cpt init`, `cpt validate` and `cpt plan`: write, check and plan a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cpt.cli.launch import requested_place
from cpt.cli.options import (
    DEFAULT_RUNS,
    Force,
    From,
    Json,
    Only,
    Overrides,
    RecipeArgument,
    Runs,
    Until,
    selection,
)
from cpt.cli.output import coloured, out, print_json, rows
from cpt.cli.rate_curve import draw
from cpt.errors import UsageError
from cpt.formatting import plural, size
from cpt.recipe.authoring import about, template, templates
from cpt.recipe.load import load
from cpt.recipe.plan import Entry, Plan, make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store


def init(
    path: Annotated[
        Path | None,
        typer.Argument(help="File or folder to write to. Default: NAME.yaml."),
    ] = None,
    name: Annotated[
        str, typer.Option("--template", "-t", metavar="NAME", help="Template to start from.")
    ] = "quickstart",
    listing: Annotated[bool, typer.Option("--list", metavar="", help="List the templates and exit.")] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Overwrite the file if it exists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a commented recipe from a template.

    Example: cpt init medical.yaml --template quickstart
    """
    if listing:
        _list_templates(as_json)
    else:
        _write_template(name, path, force, as_json)


def validate(
    context: typer.Context, recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Check a recipe and report all problems at once. Runs and downloads nothing.

    Example: cpt validate medical.yaml pretrain.tokens=50_000

    With launcher options after `--`, as in `cpt run`, also check what several processes cannot do.
    """
    checked = load(recipe, overrides or (), place=requested_place(context))
    if as_json:
        print_json({"name": checked.name, "valid": True, "stages": [step.name for step in checked.steps]})
    else:
        names = " → ".join(step.name for step in checked.steps)
        out().print(f"{recipe} is valid: {plural(len(checked.steps), 'stage')}, {names}.", soft_wrap=True)


def plan(
    context: typer.Context,
    recipe: RecipeArgument,
    overrides: Overrides = None,
    from_: From = None,
    until: Until = None,
    only: Only = None,
    force: Force = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show what `cpt run` would do with the same arguments: run, cached or stale for each stage, and why.

    Example: cpt plan medical.yaml pretrain.schedule.peak=1e-4

    With launcher options after `--`, as in `cpt run`, also check what several processes cannot do.
    """
    from cpt.estimate.recipe import cached_peaks

    place = requested_place(context)
    checked = load(recipe, overrides or (), place=place)
    store = Store(runs / checked.name)
    made = make_plan(checked, store, selection(from_, until, only, force))
    peaks = cached_peaks(made, place)
    if as_json:
        print_json(
            {
                "name": checked.name,
                "base": checked.data["base"],
                "base_fingerprint": made.base_fingerprint,
                "seed": checked.seed,
                "folder": str(store.folder),
                "stages": [
                    entry.as_json() | {"peak_bytes": peaks.get(entry.step.name)} for entry in made.entries
                ],
            }
        )
    else:
        _print_plan(made, store, peaks)


def _write_template(name: str, path: Path | None, force: bool, as_json: bool) -> None:
    text = template(name)
    target = Path(f"{name}.yaml") if path is None else path
    if target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint="Choose another name, or use --force.")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="Make it first.")
    target.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"recipe": str(target), "template": name})
    else:
        out().print(f"Wrote {target}. Read it, change it, then: cpt run {target}", soft_wrap=True)


def _list_templates(as_json: bool) -> None:
    known = {name: about(text) for name, text in templates().items()}
    if as_json:
        return print_json(known)
    table = rows()
    table.add_column("")
    table.add_column("")
    for name, line in known.items():
        table.add_row("", Text(name, style="bold"), line)
    return out().print(table)


def _print_plan(made: Plan, store: Store, peaks: Mapping[str, int]) -> None:
    console, recipe = out(), made.recipe
    console.print(Text.assemble((recipe.name, "bold"), (f"  in {store.folder}, seed {recipe.seed}", "dim")))
    console.print(Text(f"  base {recipe.data['base']}", style="dim"), soft_wrap=True)
    table = rows("stage", "action", "why")
    for entry in made.entries:
        table.add_row("", entry.step.name, coloured(entry.action), _why(entry, peaks.get(entry.step.name)))
    console.print(table)
    count = len(made.to_run)
    for entry in made.entries:
        _print_curve(entry, recipe)
    console.print("Nothing to run." if not count else f"{plural(count, 'stage')} to run.")


def _print_curve(entry: Entry, recipe: Recipe) -> None:
    """Print the learning-rate curve of a training stage, if its number of tokens is known."""
    from cpt.stages.pretrain.config import PretrainConfig
    from cpt.stages.pretrain.data import expected_tokens

    config = entry.step.config
    if not isinstance(config, PretrainConfig):
        return
    tokens = expected_tokens(config, recipe.upstream(entry.step, "corpus"))
    if tokens is None:
        return
    console, schedule = out(), config.planned_schedule
    console.print(Text.assemble("\n  ", (entry.step.name, "bold"), f"  learning rate, {schedule.kind}"))
    for line in draw(schedule, tokens, console.width - 2, "tokens"):
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print()


def _why(entry: Entry, peak: int | None) -> Text:
    text = Text("; ".join([entry.why, "continues from work left by an interruption"][: 1 + entry.continues]))
    if entry.forecast:
        text.append(f"\n{entry.forecast}", style="dim")
    if peak is not None:
        text.append(f"\nabout {size(peak)} of memory at the peak (details: cpt estimate)", style="dim")
    return text
