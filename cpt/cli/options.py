"""Define arguments and options that several commands share, and parse `NAME=REFERENCE`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cpt.errors import UsageError
from cpt.recipe.plan import Selection
from cpt.references.syntax import exists


def _folder(text: str) -> Path:
    """Return the path of a folder; refuse an empty text, which would mean the current folder."""
    if not str(text).strip():
        raise typer.BadParameter("the folder's name is empty")
    return Path(text)


RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings to change for this call: `seed=3`, `pretrain.schedule.peak=1e-4`, "
        "`corpus.domain.0.path=notes.jsonl`. Stages by name, list items by number from 0.",
    ),
]


def run_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of runs with a beginning, for the completion of a shell."""
    root = Path(context.params.get("runs") or os.environ.get("CPT_RUNS") or DEFAULT_RUNS)
    names = sorted(file.parent.name for file in root.glob("*/run.json"))
    return [name for name in names if name.startswith(incomplete)]


RunArgument = Annotated[
    str | None,
    typer.Argument(help="Name or folder of a run. Default: the newest run.", autocompletion=run_names),
]

Runs = Annotated[
    Path,
    typer.Option(
        "--runs", metavar="DIR", envvar="CPT_RUNS", parser=_folder, help="Folder that holds all runs."
    ),
]

StageOfRuns = Annotated[
    str | None,
    typer.Option("--stage", metavar="NAME", help="The pretrain stage, of runs that have several."),
]

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON on standard output.")]

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="STAGE",
        help="Start at this stage: earlier stages are not run, their results must exist.",
    ),
]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Only = Annotated[
    str | None,
    typer.Option("--only", metavar="STAGE", help="Run this stage only; its inputs must exist."),
]
Force = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        metavar="STAGE",
        help="Run a stage and all that depends on it again, although nothing changed. Can be repeated; "
        "`all` means every stage.",
    ),
]

DEFAULT_RUNS = Path("runs")


def selection(from_: str | None, until: str | None, only: str | None, force: list[str] | None) -> Selection:
    """Return the stages that these options select."""
    return Selection(from_, until, only, tuple(force or ()))


_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?!=)(?P<rest>.+)", re.DOTALL)


def require_parents(*files: Path | None) -> None:
    """Raise unless the files can be written.

    Raises:
        UsageError: A file's folder is not there, or the file is a folder.
    """
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"there is no folder {file.parent}", hint="Make it first.")
        if file is not None and file.is_dir():
            raise UsageError(f"{file} is a folder", hint="Name a file.")


def split_name(word: str) -> tuple[str | None, str]:
    """Split `law=org/name` into name and reference; the name is None without one.

    An existing path is a reference even if it contains `=`. Otherwise the text before the first `=` is a name
    if it consists of letters, digits, `.`, `_` and `-`.
    """
    match = None if exists(Path(word)) else _NAME.fullmatch(word)
    return (match["name"], match["rest"]) if match else (None, word)


def named_texts(words: Sequence[str], flag: str = "--text") -> dict[str, str]:
    """Return references of texts by name; a text without a name is named by its reference.

    Raises:
        UsageError: Two texts have the same name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, reference = split_name(word)
        called = name or reference
        if called in found:
            raise UsageError(f"{flag} {called} is given twice", hint="Give one of them another name.")
        found[called] = reference
    return found
