"""`cpt run`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cpt.cli.form import duration
from cpt.cli.live import LiveView
from cpt.cli.looking import print_summary, report_data
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
from cpt.cli.output import err, out, print_json
from cpt.cli.plain import PlainView
from cpt.cli.quiet import diverted
from cpt.errors import GateFailed
from cpt.recipe.load import load
from cpt.recipe.progress import Listener
from cpt.recipe.runner import Summary
from cpt.recipe.runner import run as run_recipe


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    from_: From = None,
    until: Until = None,
    only: Only = None,
    force: Force = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show tracebacks, and what the libraries print.")
    ] = False,
) -> None:
    """Run a recipe: what is made already is kept, what changed is made again, what stopped continues.

    Example: cpt run medical.yaml pretrain.tokens=50_000 --until pretrain

    Exit codes: 0 done, 1 a stage failed, 2 the recipe or the command line is wrong, 3 a quality or
    forgetting budget is broken, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    checked = load(recipe, overrides or ())
    chosen = selection(from_, until, only, force)
    view = _view(debug)
    if debug:
        summary = run_recipe(checked, runs, chosen, view)
    else:
        with diverted(runs / checked.name / "libraries.log"):
            summary = run_recipe(checked, runs, chosen, view)
    if as_json:
        print_json(summary.as_json())
    else:
        _print(summary)
    if summary.gates:
        _fail_gates(summary)


def _view(debug: bool) -> Listener:
    console = err()
    if console.is_terminal and not debug:
        return LiveView(console)
    return PlainView(sys.stderr)


def _print(summary: Summary) -> None:
    console = out()
    if not summary.plan.to_run:
        console.print(f"{summary.name}: nothing to run, everything is made already.")
    else:
        console.print(f"{summary.name}: done in {duration(summary.seconds)}.")
    if summary.report is not None:
        print_summary(console, report_data(summary.report), summary.report)


def _fail_gates(summary: Summary) -> None:
    for stage, message in summary.gates.items():
        err().print(f"gate failed: {stage}: {message}", soft_wrap=True)
    raise typer.Exit(GateFailed.exit_code)
