"""`cpt corpus build` runs the corpus stage of a recipe, without the stages after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.corpus.contents import print_ledger
from cpt.cli.options import DEFAULT_RUNS, Force, Json, Overrides, RecipeArgument, Runs
from cpt.cli.output import out, print_json
from cpt.cli.run import run_stages
from cpt.errors import UsageError
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.recipe.schema import Recipe


def build(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    force: Force = None,
    runs: Runs = DEFAULT_RUNS,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes, as the key `workers`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the corpus of a recipe, and print its ledger. A recipe with that one stage is enough.

    A finished corpus is reused, also by `cpt run`. An interrupted one goes on behind the last step and task
    that were finished.

    Example: cpt corpus build medical.yaml corpus.heldout=0.05 --json
    """
    checked = load(recipe, overrides or ())
    stage = _corpus_stage(checked, recipe)
    if workers is not None:
        checked = load(recipe, [*(overrides or ()), f"{stage}.workers={workers}"])
    summary = run_stages(checked, runs, Selection(until=stage, force=tuple(force or ())))
    folder = summary.artifacts[stage].path("corpus")
    if as_json:
        from cpt.corpus.index import read_index

        return print_json({"folder": str(folder), "sources": read_index(folder).ledger()})
    print_ledger(folder)
    return out().print(f"Corpus: {folder}", soft_wrap=True)


def _corpus_stage(recipe: Recipe, path: Path) -> str:
    """Return the name of the recipe's first corpus stage."""
    for step in recipe.steps:
        if step.kind == "corpus":
            return step.name
    raise UsageError(f"{path} has no corpus stage", hint="Add `- corpus: {domain: [{path: FILE}]}`.")
