"""`cpt continue`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.launch import launch, wanted_launch
from cpt.cli.options import DEFAULT_RUNS, Json, Overrides, RecipeArgument, Runs
from cpt.cli.output import err
from cpt.cli.running import lead, leading
from cpt.recipe.continuing import settle, write_continuation
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.training.launch import launched_place
from cpt.training.world import world


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
