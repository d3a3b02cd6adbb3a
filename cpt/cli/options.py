"""Arguments and options that several commands share.

`NAME=REFERENCE` on the command line: models and texts with a name of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cpt.errors import UsageError
from cpt.recipe.plan import Selection
from cpt.references.syntax import exists


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


_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?!=)(?P<rest>.+)", re.DOTALL)


def split_name(word: str) -> tuple[str | None, str]:
    """Split `law=org/name` into name and reference; the name is None if there is none.

    What exists as it is written is a path, whatever is in it. Else a name is what stands before the first
    `=`, if it is of letters, digits, `.`, `_` and `-`.
    """
    match = None if exists(Path(word)) else _NAME.fullmatch(word)
    return (match["name"], match["rest"]) if match else (None, word)


def named_texts(words: Sequence[str], flag: str = "--text") -> dict[str, str]:
    """Return references of texts by name; a text without a name is called by its reference.

    Raises:
        UsageError: two have the same name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, reference = split_name(word)
        called = name or reference
        if called in found:
            raise UsageError(f"{flag} {called} is given twice", hint="Give one of them another name.")
        found[called] = reference
    return found
