"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.recipe.plan import Selection


def _folder(text: str) -> Path:
    """A folder's path; an empty one would be the current folder, which is hardly meant."""
    if not str(text).strip():
        raise typer.BadParameter("the folder's name is empty")
    return Path(text)


RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings to change for this time: `seed=3`, `pretrain.schedule.peak=1e-4`, "
        "`corpus.domain.0.path=notes.jsonl`. A stage is named by its name, a list item by its number from 0.",
    ),
]

RunArgument = Annotated[
    str | None,
    typer.Argument(help="Name of a run, or its folder. The newest run if left out."),
]

Runs = Annotated[
    Path,
    typer.Option(
        "--runs", metavar="DIR", envvar="CPT_RUNS", parser=_folder, help="Folder that holds all runs."
    ),
]

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON on standard output.")]

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="STAGE",
        help="Start here: earlier stages are not run; their results must be there already.",
    ),
]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Only = Annotated[
    str | None,
    typer.Option("--only", metavar="STAGE", help="This stage alone; its inputs must be there already."),
]
Force = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        metavar="STAGE",
        help="Run a stage again although nothing changed, and what is made from it. May be repeated; "
        "`all` stands for every stage.",
    ),
]

DEFAULT_RUNS = Path("runs")


def selection(from_: str | None, until: str | None, only: str | None, force: list[str] | None) -> Selection:
    """The stages that these options ask for."""
    return Selection(from_, until, only, tuple(force or ()))
