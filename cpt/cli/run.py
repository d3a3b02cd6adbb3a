"""Define `cpt run` and `cpt continue`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.heartbeat import heartbeat
from cpt.cli.launch import launch, launch_request, requested_place
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
from cpt.cli.silence import redirect_warnings, silent
from cpt.cli.views.log import LogView
from cpt.cli.views.tty import TtyView
from cpt.errors import CptError, GateFailed, UsageError
from cpt.formatting import duration
from cpt.recipe.authoring import settle, write_continuation
from cpt.recipe.events import Listener
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.recipe.runner import Summary
from cpt.recipe.runner import run as run_recipe
from cpt.recipe.schema import Recipe
from cpt.recipe.workers import run_worker
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.launch import launched_environment


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
        bool, typer.Option("--debug", metavar="", help="Show tracebacks and the output of libraries.")
    ] = False,
) -> None:
    """Run a recipe: keep finished results, redo changed stages, resume interrupted ones.

    Example: cpt run medical.yaml pretrain.tokens=50_000 --until pretrain

    Several processes: options after `--` go to `accelerate launch`. Pretraining is distributed, with the same
    data in the same order on any number of processes; other stages run in the main process.

    Example: cpt run medical.yaml -- --num_processes 8

    Example with sharded weights (FSDP2), on two machines that share a disk:
    cpt run medical.yaml -- --use_fsdp --fsdp_version 2 --num_processes 16 --num_machines 2 --machine_rank 0
    --main_process_ip 10.0.0.1 --main_process_port 29500

    Or start the processes with torchrun; its restarts resume from the last checkpoint:
    torchrun --nproc_per_node 8 --max_restarts 3 -m cpt run medical.yaml

    Exit codes: 0 done, 1 a stage failed, 2 the recipe or the command line is wrong, or an input is
    damaged, 3 a limit on quality or forgetting is broken, 4 none is broken but one is not shown to be held
    (results are kept and later stages run in both cases), 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    launching = launch_request(context)
    if launching:
        load(
            recipe, overrides or (), place=requested_place(context)
        )  # report problems before any process starts
        own, options = launching
        raise typer.Exit(launch(["run", *own], options, debug))
    with main_process_only(debug):
        run_main_process(recipe, overrides, selection(from_, until, only, force), runs, as_json, debug)


@contextmanager
def main_process_only(debug: bool = False) -> Iterator[None]:
    """Enter the block in the main process; other processes serve it until it ends, then exit."""
    here = distributed_context()
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
        here.shutdown(code)


def _help_out(debug: bool) -> int:
    if debug:
        return run_worker()
    with silent():
        return run_worker()


def run_main_process(
    recipe: Path, overrides: list[str] | None, chosen: Selection, runs: Path, as_json: bool, debug: bool
) -> None:
    """Run a recipe in the main process, and print the result."""
    checked = load(recipe, overrides or (), place=launched_environment(distributed_context().count))
    summary = run_stages(checked, runs, chosen, debug)
    if as_json:
        print_json(summary.as_json())
    else:
        _print(summary)
    if summary.gates:
        _fail_gates(summary)


def run_stages(recipe: Recipe, runs: Path, chosen: Selection, debug: bool = False) -> Summary:
    """Run the chosen stages of a recipe, and show their progress on standard error."""
    view = _view(debug)
    with ExitStack() as around:
        if isinstance(view, LogView):
            around.enter_context(heartbeat(view.tick, seconds=1.0))
        if not debug:
            around.enter_context(redirect_warnings(runs / recipe.name / "libraries.log"))
        summary = run_recipe(recipe, runs, chosen, view)
    if summary.unchecked:
        stages = ", ".join(summary.unchecked)
        note = f"{stages}: made before results had checksums; taken as they are, and checked from now on."
        err().print(note, soft_wrap=True)
    return summary


def _view(debug: bool) -> Listener:
    console = err()
    if console.is_terminal and not debug:
        return TtyView(console)
    return LogView(sys.stderr)


def _print(summary: Summary) -> None:
    console = out()
    if not summary.plan.to_run:
        console.print(f"{summary.name}: nothing to run, everything is made already.")
    else:
        console.print(f"{summary.name}: done in {duration(summary.seconds)}.")
    if summary.report is not None:
        print_summary(console, report_data(summary.report), summary.report)
    if summary.model is not None:
        console.print(f"Model: {summary.model}", soft_wrap=True)


def _fail_gates(summary: Summary) -> None:
    for stage, message in summary.gates.items():
        failed = "failed" if summary.verdicts[stage] == GateFailed.verdict else summary.verdicts[stage]
        where = "" if message.startswith(f"{stage}.") else f"{stage}: "
        err().print(f"gate {failed}: {where}{message}", soft_wrap=True)
    raise typer.Exit(summary.exit_code)


def continue_(
    context: typer.Context,
    recipe: RecipeArgument,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Number of tokens to train on.")],
    overrides: Overrides = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="WHICH",
            help="Checkpoint to start from: `last`, `pre-anneal` (before the learning rate was annealed), or "
            "the step of a milestone (a number).",
        ),
    ] = "last",
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Training stage to continue. Default: the last one of the recipe.",
        ),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(
            "--optimizer",
            metavar="STATE",
            help="State of the optimizer at the start: `fresh`, or `carried` on from the checkpoint, which "
            "must have kept it (checkpoint.keep_optimizer).",
        ),
    ] = "fresh",
    name: Annotated[str, typer.Option("--name", help="Name of the new stage.")] = "continued",
    output: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Recipe to write. Default: RECIPE-continued.yaml."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Continue a finished training from a checkpoint, with a new schedule and, by default, a fresh optimizer.

    The new training starts with text that the earlier one has not seen. From before an anneal (`pre-anneal`)
    a schedule `infinite` or `wsd` goes on at the rate there; otherwise the schedule is the default. The
    command writes a recipe with the new stage and runs it; earlier results are kept, and later stages use the
    new model. To resume an interrupted run, use `cpt run`. Options after `--` start several processes.

    Example: cpt continue medical.yaml --tokens 50_000 continued.schedule.peak=1e-4
    """
    if launching := launch_request(context):
        own, options = launching
        raise typer.Exit(launch(["continue", *own], options, debug=False))
    if optimizer not in ("fresh", "carried"):
        raise UsageError(f"--optimizer: `{optimizer}` is neither fresh nor carried")
    path = output or recipe.with_name(f"{recipe.stem}-continued.yaml")
    with main_process_only():
        write_continuation(
            load(recipe),
            path,
            tokens=tokens,
            checkpoint=checkpoint,
            stage=stage,
            name=name,
            carried=optimizer == "carried",
        )
        settled = settle(path, overrides or [], launched_environment(distributed_context().count))
        err().print(f"Wrote {path}; `cpt run {path}` resumes it.", soft_wrap=True)
        if any(step.name == name and getattr(step.config, "gates", ()) for step in settled.steps):
            err().print(f"The limits of {name} count from where it starts, not from the base.", markup=False)
        run_main_process(path, None, Selection(), runs, as_json, debug=False)
