"""Define `cpt validate` and `cpt plan`: check and plan a recipe."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from rich.text import Text

from cpt.cli.heartbeat import show_waiting
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
from cpt.formatting import duration_in_words, plural, size
from cpt.recipe.load import load
from cpt.recipe.plan import Entry, Plan, make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store


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
    from cpt.estimate.cached_peaks import cached_peaks
    from cpt.estimate.other_stages import sampling_seconds

    place = requested_place(context)
    checked = load(recipe, overrides or (), place=place)
    store = Store(runs / checked.name)
    with show_waiting("planning"):
        made = make_plan(checked, store, selection(from_, until, only, force))
    with show_waiting("estimating memory"):
        peaks = cached_peaks(made, place)
        sampling = sampling_seconds(made)
    if as_json:
        print_json(
            {
                "name": checked.name,
                "base": checked.data["base"],
                "base_fingerprint": made.base_fingerprint,
                "seed": checked.seed,
                "folder": str(store.folder),
                "stages": [
                    entry.as_json()
                    | {
                        "peak_bytes": peaks.get(entry.step.name),
                        "sampling_seconds": sampling.get(entry.step.name),
                    }
                    for entry in made.entries
                ],
            }
        )
    else:
        _print_plan(made, store, peaks, sampling)


def _print_plan(made: Plan, store: Store, peaks: Mapping[str, int], sampling: Mapping[str, float]) -> None:
    console, recipe = out(), made.recipe
    console.print(Text.assemble((recipe.name, "bold"), (f"  in {store.folder}, seed {recipe.seed}", "dim")))
    console.print(Text(f"  base {recipe.data['base']}", style="dim"), soft_wrap=True)
    table = rows("stage", "action", "why")
    for entry in made.entries:
        name = entry.step.name
        why = _why(entry, peaks.get(name), sampling.get(name))
        table.add_row("", name, coloured(entry.action), why)
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


def _why(entry: Entry, peak: int | None, sampling: float | None) -> Text:
    text = Text("; ".join([entry.why, "continues from work left by an interruption"][: 1 + entry.continues]))
    if entry.forecast:
        text.append(f"\n{entry.forecast}", style="dim")
    if sampling is not None:
        text.append(f"\nsamples replay text, roughly {duration_in_words(sampling)}", style="dim")
    if peak is not None:
        text.append(f"\nabout {size(peak)} of memory at the peak (details: cpt estimate)", style="dim")
    return text
