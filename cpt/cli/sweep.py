"""Define `cpt sweep`: vary settings of a recipe, run each configuration, say which one to take."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cpt.cli.launch import launch_request
from cpt.cli.options import DEFAULT_RUNS, Json, Overrides, RecipeArgument, Runs
from cpt.cli.output import err, out, print_json, rows
from cpt.errors import RecipeError, UsageError
from cpt.formatting import duration
from cpt.recipe.load import load

if TYPE_CHECKING:
    from cpt.sweep.result import SweepResult
    from cpt.sweep.run import SweepEvent
    from cpt.sweep.state import SweepFile, SweepRequest

PAGE = "sweep.html"

_TIMES = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_RANDOM_POINTS = 12
"""Number of configurations of the methods that have no natural number, as of a merge search."""


def sweep(
    context: typer.Context,
    recipe: RecipeArgument,
    overrides: Overrides = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=VALUES",
            help="A setting and its values: `pretrain.replay=0,0.05,0.25`; for --method random and tpe also "
            "a range: `pretrain.schedule.peak=1e-5..1e-3 log`.",
        ),
    ] = None,
    skills: Annotated[
        str | None,
        typer.Option(
            "--skills",
            metavar="STAGE",
            help="In place of --vary: train the pretrain stage on each part of the domain alone, and measure "
            "all parts. `cpt law skills SWEEP` then learns which part helps which.",
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="N",
            help="Number of seeds of every configuration, from the recipe's on; or a list: 17,18,19. "
            "With one seed, chance is not told from effects.",
        ),
    ] = "1",
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="NAME", help="grid (all combinations), random, or tpe (follows the results)."
        ),
    ] = "grid",
    points: Annotated[
        int | None,
        typer.Option(
            "--points",
            metavar="N",
            min=1,
            help="Largest number of configurations. Default: all of a grid, 12 of random and tpe.",
        ),
    ] = None,
    minimize: Annotated[
        str,
        typer.Option(
            "--minimize",
            metavar="MEASURE",
            help="What is to become small: a held-out text, or `suite:NAME`, `recall:GROUP` to become large.",
        ),
    ] = "domain",
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit", metavar="LIMIT", help="What must hold of a held-out text: `general <= +0.01`."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="Time for all runs, such as 90min or 2h: the time of each configuration is estimated, and "
            "those that do not fit are left out.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, help="Number of runs at the same time.")
    ] = 1,
    launcher: Annotated[
        str,
        typer.Option(
            "--launcher", metavar="WORDS", help="Words before the command of every run: `srun --gpus 1`."
        ),
    ] = "",
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the sweep. Default: RECIPE-sweep, or RECIPE-skills."
        ),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Try combinations of settings and seeds, and report effects, trade-off and the best configuration.

    Every configuration is a normal run, named SWEEP-pNN-sSEED. Stages that do not differ are made once. The
    same command continues after any stop; with more values, seeds or points it adds runs.

    Examples: cpt sweep medical.yaml --vary pretrain.schedule.peak=1e-4,3e-4
    --vary pretrain.replay=0,0.05,0.25 --seeds 3 --limit 'general <= +0.01' --budget 2h

    cpt sweep medical.yaml --skills pretrain --seeds 2 pretrain.tokens=200_000

    Options after `--` go to `accelerate launch` of every run.

    Exit codes: 0 all runs have a result, 1 some failed, 2 the recipe or the command line is wrong, 130
    interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    from cpt.sweep.process import Execution
    from cpt.sweep.run import sweep as run_sweep

    launching = launch_request(context)
    request = _request(
        recipe, overrides or [], vary or [], skills, seeds, method, points, minimize, limit, budget, name
    )
    options = tuple(launching[1]) if launching else ()
    try:
        words = tuple(shlex.split(launcher))
    except ValueError as error:
        raise UsageError(f"--launcher: {error} in `{launcher}`") from None
    execution = Execution(runs, jobs, words, options)
    page = runs / request.name / PAGE

    def follow(event: SweepEvent) -> None:
        _print_event(event)
        proposed = event.of < (request.points or 0) * len(request.seeds)  # more will come
        if event.kind in ("done", "failed") and (event.ended < event.of or proposed):
            _write_early_page(event.file, page)

    found = _result(run_sweep(request, execution, follow))
    _write_page(found, page)
    if as_json:
        print_json(found.model_dump(mode="json") | {"page": str(page)})
    else:
        _print(found, page)
    if found.failed:
        raise typer.Exit(1)


def _request(
    recipe: Path,
    overrides: list[str],
    vary: list[str],
    skills: str | None,
    seeds: str,
    method: str,
    points: int | None,
    minimize: str,
    limit: str | None,
    budget: str | None,
    name: str | None,
) -> SweepRequest:
    """Return the checked request."""
    from cpt.monitor.gates.gate import Limit
    from cpt.sweep.factors import parse_factors, parse_seeds
    from cpt.sweep.measures import require_measured
    from cpt.sweep.skills import load_for_parts, parts_alone
    from cpt.sweep.state import SweepRequest

    if method not in ("grid", "random", "tpe"):
        raise UsageError(f"--method: `{method}` is none of grid, random, tpe")
    if skills is not None and (vary or method != "grid"):
        raise UsageError("--skills tries each part once: it goes without --vary and --method")
    if not vary and skills is None:
        raise UsageError("nothing is varied", hint="Add --vary, such as --vary pretrain.replay=0,0.05,0.25.")
    if skills is None:
        loaded, factors = load(recipe, overrides), parse_factors(vary, method)  # type: ignore[arg-type]
    else:
        loaded, overrides = load_for_parts(recipe, overrides, skills)
        factors = [parts_alone(loaded, skills)]
    for factor in factors:
        if any(factor.key == text.partition("=")[0].strip() for text in overrides):
            raise UsageError(f"`{factor.key}` is varied, and set by an override too", hint="Leave one out.")
    name = name or f"{loaded.name}-{'sweep' if skills is None else 'skills'}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        raise UsageError(f"--name: `{name}` cannot name runs", hint="Use letters, digits, dots and dashes.")
    try:
        bound = Limit.parse(limit) if limit else None
        if bound is not None and bound.recovery:
            raise ValueError(f"`{limit}` bounds a recovery; bound a change, such as `general <= +0.01`")
        if bound is not None and (misfit := bound.misfit("text")):
            raise ValueError(f"a limit is of a held-out text: {misfit}")
        given = parse_seeds(seeds, loaded.seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if points is None and method != "grid":
        points = _RANDOM_POINTS
    request = SweepRequest(
        name=name,
        recipe=str(recipe.absolute()),
        overrides=tuple(overrides),
        factors=tuple(factors),
        seeds=tuple(given),
        method=method,
        points=points,
        minimize=minimize,
        limit=bound,
        seconds=_seconds(budget) if budget else None,
    )
    with suppress(RecipeError):  # the sweep lists the mistakes of all configurations
        first = {factor.key: factor.levels[0] for factor in factors if factor.levels}
        require_measured(load(recipe, request.settings(first)), request.measures)
    return request


def _seconds(text: str) -> float:
    """Parse `90min`, `2h` or `1.5h`.

    Raises:
        UsageError: The text is no time.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*(s|min|m|h|d)", text.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--budget: `{text}` is no time", hint="Write 90min or 2h.")
    return float(found[1]) * _TIMES[found[2]]


def _print_event(event: SweepEvent) -> None:
    """Print a line on standard error."""
    from cpt.sweep.words import in_words, summary_line

    stamp = datetime.now().strftime("%H:%M:%S")
    trial = event.trial
    if trial is None:
        said = f"plan: {event.text}" if event.kind == "plan" else "measures training steps, for the plan"
        err().print(f"{stamp} {said}", soft_wrap=True)
        return
    said = {
        "starts": f"starts: {in_words(trial.values, list(trial.values))}",
        "done": f"done in {duration(trial.seconds)}: {summary_line(trial.changes, ['domain', 'general'])}",
        "failed": f"failed: {event.text}",
        "waits": f"waits: {event.text}",
        "left out": "left out: not enough time",
    }.get(event.kind, event.text)
    if said:
        counted = f"  ({event.ended} of {event.of})" if event.kind in ("done", "failed") else ""
        err().print(f"{stamp} {trial.run}: {said}{counted}", soft_wrap=True)


def _result(file: SweepFile) -> SweepResult:
    from cpt.sweep.result import result_of

    return result_of(file, datetime.now(UTC).isoformat(timespec="seconds"))


def _write_page(found: SweepResult, path: Path) -> None:
    from cpt.atomic import write_text
    from cpt.sweep.page import render

    write_text(path, render(found))


def _write_early_page(file: SweepFile, path: Path) -> None:
    """Write the page of the runs that have ended. A page that cannot be drawn does not stop the others."""
    try:
        _write_page(_result(file), path)
    except Exception as error:  # hours of runs are worth more than an early look
        err().print(f"the page is not up to date: {error}", soft_wrap=True, markup=False)


def _print(found: SweepResult, page: Path) -> None:
    from cpt.sweep.page import with_bounds
    from cpt.sweep.words import value_in_words

    console = out()
    if found.recommendation is None:
        why = (
            "No run has a result."
            if found.compared
            else "No two configurations have results for the same seeds."
        )
        console.print(Text(why, style="bold"))
    else:
        first, *others = found.recommendation.sentences
        console.print(Text(first, style="bold"), soft_wrap=True)
        for sentence in filter(None, others):
            console.print(sentence, soft_wrap=True)
    shown = found.measures[:4]
    labels = [key.rpartition(".")[2] for key in found.factors]
    table = rows("", *labels, *(f"{name}#" for name in shown), "from the best#", "")
    for row in found.configurations:
        chosen = found.recommendation is not None and found.recommendation.number == row.number
        marks = ", ".join([*(["best"] if chosen else []), *(["front"] if row.on_front else [])])
        shown_changes = [(name, row.changes.get(name)) for name in shown]
        changes = [
            with_bounds(name, each) for name, each in (*shown_changes, (found.minimize, row.difference))
        ]
        values = [value_in_words(row.values[key]) for key in found.factors]
        table.add_row("", f"p{row.number:02d}", *values, *changes, Text(marks, style="green"))
    console.print(table)
    if found.left_out:
        console.print(
            f"Left out: {found.left_out}. The same command with more time adds them.", soft_wrap=True
        )
    for note in found.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    for run, message in found.failed.items():
        console.print(Text(f"{run} failed: {message}", style="red"), soft_wrap=True)
    console.print(f"Sweep: {page}", soft_wrap=True)
