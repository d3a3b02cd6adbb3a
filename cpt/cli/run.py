"""`cpt run`.

`cpt continue`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.launch import launch, wanted_launch, wanted_place
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
from cpt.cli.report import print_summary, report_data
from cpt.cli.silence import diverted, silent
from cpt.cli.views.log import PlainView
from cpt.cli.views.tty import LiveView
from cpt.errors import CptError, GateFailed
from cpt.formatting import duration
from cpt.recipe.continuing import settle, write_continuation
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.recipe.progress import Listener
from cpt.recipe.runner import Summary
from cpt.recipe.runner import run as run_recipe
from cpt.recipe.together import help_out
from cpt.training.launch import launched_place
from cpt.training.world import world


def run(
    context: typer.Context,
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

    On several processes: what follows `--` goes to `accelerate launch`. Pretraining is shared out, with the
    same data in the same order on any number; other stages run in the first process, the only one to write.

    Example: cpt run medical.yaml -- --num_processes 8

    Example, each process with a part of the weights (FSDP2), on two machines that share a disk:
    cpt run medical.yaml -- --use_fsdp --fsdp_version 2 --num_processes 16 --num_machines 2 --machine_rank 0
    --main_process_ip 10.0.0.1 --main_process_port 29500

    Or start them yourself; torchrun's restarts continue from the last checkpoint:
    torchrun --nproc_per_node 8 --max_restarts 3 -m cpt run medical.yaml

    Exit codes: 0 done, 1 a stage failed, 2 the recipe or the command line is wrong, 3 a quality or
    forgetting budget is broken, 4 none is broken but one is not shown to be held (results are kept and later
    stages run in both cases), 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    launching = wanted_launch(context)
    if launching:
        load(recipe, overrides or (), place=wanted_place(context))  # mistakes are told before any start
        own, options = launching
        raise typer.Exit(launch(["run", *own], options, debug))
    with leading(debug):
        lead(recipe, overrides, selection(from_, until, only, force), runs, as_json, debug)


@contextmanager
def leading(debug: bool = False) -> Iterator[None]:
    """Of several processes the main one goes in; the others help it, and leave the command."""
    here = world()
    if not here.is_main:
        raise typer.Exit(_help_out(debug))
    code = 1
    try:
        yield
        code = 0
    except (CptError, typer.Exit) as leaving:
        code = leaving.exit_code
        raise
    finally:
        here.end(code)


def _help_out(debug: bool) -> int:
    if debug:
        return help_out()
    with silent():
        return help_out()


def lead(
    recipe: Path, overrides: list[str] | None, chosen: Selection, runs: Path, as_json: bool, debug: bool
) -> None:
    """Main process: run a recipe, and show what comes of it."""
    checked = load(recipe, overrides or (), place=launched_place(world().count))
    view = _view(debug)
    if debug:
        summary = run_recipe(checked, runs, chosen, view)
    else:
        with diverted(runs / checked.name / "libraries.log"):
            summary = run_recipe(checked, runs, chosen, view)
    if summary.unchecked:
        stages = ", ".join(summary.unchecked)
        note = f"{stages}: made before results had checksums; taken as they are, and checked from now on."
        err().print(note, soft_wrap=True)
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
        failed = "failed" if summary.verdicts[stage] == GateFailed.verdict else summary.verdicts[stage]
        where = "" if message.startswith(f"{stage}.") else f"{stage}: "
        err().print(f"gate {failed}: {where}{message}", soft_wrap=True)
    raise typer.Exit(summary.exit_code)


def continue_(
    context: typer.Context,
    recipe: RecipeArgument,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens of the new training.")],
    overrides: Overrides = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="WHICH",
            help="Start from the earlier training's `last` model, from the one before its rate was annealed "
            "(`pre-anneal`), or from the milestone of a step (a number).",
        ),
    ] = "last",
    stage: Annotated[
        str | None,
        typer.Option("--stage", metavar="STAGE", help="The training to continue; the recipe's last one."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the new stage.")] = "continued",
    output: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Recipe to write; by default RECIPE-continued.yaml."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Train on from a checkpoint of a finished training, with a fresh optimizer and another schedule.

    It begins with the text that the earlier training has not seen. A recipe with that stage is written and
    run; what the run has made before is kept, and later stages use the new model. This is not how a
    stopped run is resumed: `cpt run` does that. What follows `--` starts several processes, as in `cpt run`.

    Example: cpt continue medical.yaml --tokens 50_000 --checkpoint pre-anneal continued.schedule.peak=1e-4
    """
    if launching := wanted_launch(context):
        own, options = launching
        raise typer.Exit(launch(["continue", *own], options, debug=False))
    path = output or recipe.with_name(f"{recipe.stem}-continued.yaml")
    with leading():
        write_continuation(load(recipe), path, tokens=tokens, checkpoint=checkpoint, stage=stage, name=name)
        settled = settle(path, overrides or [], launched_place(world().count))
        err().print(f"Wrote {path}; `cpt run {path}` resumes it.", soft_wrap=True)
        if any(step.name == name and getattr(step.config, "gates", ()) for step in settled.steps):
            err().print(f"The budgets of {name} count from where it starts, not from the base.", markup=False)
        lead(path, None, Selection(), runs, as_json, debug=False)
