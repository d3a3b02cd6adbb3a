"""`cpt merge average`: average checkpoints along a run, or any models of one architecture."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from cpt.cli.merging.merge import print_report
from cpt.cli.options import DEFAULT_RUNS, Json, Runs
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.errors import CptError, Problem, RecipeError, UsageError
from cpt.recipe.journal import find_run
from cpt.references import fingerprint, locate
from merging.request import name_of

if TYPE_CHECKING:
    from cpt.stages.merge.averaging import Average
    from merging.request import InputModel

_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)")
MEGA = 1_000_000


def average(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER… | RUN",
            help="Models, the oldest first (folders that differ by a number are put in its order); "
            "or one run, whose kept checkpoints are averaged.",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="lawa: mean of the latest; ema: exponential moving average; soup: mean of all; "
            "wsd: stands for an anneal, from models before it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the average.")],
    last: Annotated[
        int | None,
        typer.Option("--last", metavar="K", help="Only the latest K models; lawa needs it. \\[default: all]"),
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(
            "--decay",
            metavar="NUMBER|CURVE",
            help="ema: weight of a model relative to the next, default 0.8; wsd: linear, cosine or 1-sqrt, "
            "the default.",
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option("--stage", metavar="NAME", help="The run's pretrain stage, if it has several."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="TYPE", help="Data type of the result. \\[default: the models']"),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Average models: the checkpoints that a run kept (checkpoint.keep_every), or any folders.

    Example: cpt merge average medical --kind lawa --last 5 --out averaged

    Example: cpt merge average checkpoints/step-* --kind ema --decay 0.9 --out averaged
    """
    from merging.averaging import average as averaged
    from merging.plan import plan
    from merging.run import run
    from merging.writer import check_free

    check_free(output)
    settings = _settings({"kind": kind, "last": last, "decay": decay})
    with show_progress(resumable=False) as view:
        inputs, what = _inputs(models, settings, stage, runs, view)
        request = averaged(inputs, settings.weights(len(inputs)), f"{what}, {settings.title}", dtype)
        planned = plan(request)
        view.message(f"averaging {len(inputs)} models: {settings.title}")
        given = {"kind": kind, "last": last, "decay": decay, "stage": stage, "dtype": dtype}
        options = [
            word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))
        ]
        report = run(
            planned,
            output,
            command=shlex.join(["cpt", "merge", "average", *models, *options, "--out", output.name]),
            progress=lambda done, total: view.update(done // MEGA, total // MEGA, "MB averaged"),
        )
    weights = ", ".join(f"{model.name} {model.parameters['weight']:.4g}" for model in request.models)
    return print_report(report, output, [f"{settings.title}: {weights}"], as_json)


def _settings(given: dict[str, Any]) -> Average:
    """Return the stage's settings of an average.

    Raises:
        UsageError: The message names every mistake.
    """
    from cpt.stages.merge.averaging import Average

    data = {name: value for name, value in given.items() if value is not None}
    try:
        found: Average = TypeAdapter(Average).validate_python(data)
    except ValidationError as error:
        messages = []
        for each in error.errors():
            place = [part for part in each["loc"] if part != data["kind"]]
            option = f"--{place[0]}" if place else "--kind"
            extra = each["type"] == "extra_forbidden"
            missing = each["type"] == "missing"
            wrong = f"{data['kind']} has no such setting" if extra else each["msg"]
            wrong = f"{data['kind']} needs it" if missing else wrong
            messages.append(f"{option}: {wrong}")
        raise UsageError("; ".join(messages)) from error
    return found


def _inputs(
    models: Sequence[str], average: Average, stage: str | None, runs: Path, progress: ProgressBar
) -> tuple[list[InputModel], str]:
    """Return the models to average, the oldest first, and a phrase that describes them."""
    first = Path(models[0])
    is_run = len(models) == 1 and not any(
        (first / name).is_file() for name in ("config.json", "adapter_config.json")
    )
    if is_run:
        return _of_run(models[0], average, stage, runs)
    if stage is not None:
        raise UsageError("--stage goes with a run, not with folders")
    wanted = average.last
    if len(models) < (wanted or 2):
        raise UsageError(f"there are {len(models)} models, and {wanted or 2} are to be averaged")
    from merging.adapters import resolve_input
    from merging.request import InputModel

    found, problems = [], []
    taken: set[str] = set()
    for reference in by_number(models)[-(wanted or 0) :]:
        name = name_of(reference, taken)
        taken.add(name)
        try:
            place = locate(reference, Path.cwd())
            found.append(InputModel(name, resolve_input(place, progress), fingerprint(place)))
        except RecipeError as error:
            problems += error.problems
        except CptError as error:
            problems.append(Problem(error.message, key=name, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return found, f"Of {len(found)} models"


def _of_run(name: str, average: Average, stage: str | None, runs: Path) -> tuple[list[InputModel], str]:
    from cpt.stages.merge.averaging import chosen_checkpoints, inputs_of
    from cpt.stages.pretrain.continuation import read_checkpoint_models

    run = find_run(runs, name)
    done = {
        each: record
        for each, facts in run.stages.items()
        if (record := run.store.find(each, facts["fingerprint"])) and "training" in record.kinds
    }
    names = [stage] if stage is not None else list(done)
    if len(names) != 1 or names[0] not in done:
        there = f"Finished trainings: {', '.join(done)}." if done else "It has finished no training."
        wanted = f"no finished training {stage}" if stage else f"{len(done)} finished trainings, not one"
        raise UsageError(f"the run {run.name} has {wanted}", hint=f"{there} --stage names one.")
    training = done[names[0]]
    found = chosen_checkpoints(average, training.name, read_checkpoint_models(training))
    if isinstance(found, Problem):
        raise UsageError(found.message, hint=found.hint)
    return inputs_of(found, training), f"Of {training.name} in the run {run.name}"


def by_number(references: Sequence[str]) -> list[str]:
    """Sort folders whose names differ only by a number at their end; keep the order of others."""
    matches = [_NUMBERED.fullmatch(reference.rstrip("/")) for reference in references]
    if any(match is None for match in matches) or len({match["stem"] for match in matches if match}) > 1:
        return list(references)
    numbers = [int(match["number"]) for match in matches if match]
    return [reference for _, reference in sorted(zip(numbers, references, strict=True))]
