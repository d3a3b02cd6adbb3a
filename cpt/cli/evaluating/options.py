"""Arguments and options that several `cpt eval` commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cpt.errors import UsageError, did_you_mean

DEFAULT_RESULTS = Path("runs/evals")

Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Models: folder, hub id, GGUF, file in a wheel.")
]
Suites = Annotated[
    list[str],
    typer.Option(
        "--suite",
        metavar="NAME[:LEVEL]",
        help="A suite (see cpt eval suites, or a file of one's own) at level smoke, quick or full; "
        "quick if left out. May be repeated.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with data sets as their authors give them away; what it lacks comes from the hub.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", metavar="", help="Leave the hub alone, as with HF_HUB_OFFLINE=1.")
]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="Of the models' weights: auto, bf16, fp32.")
]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Folder that holds all results of evaluations.")
]

Confidence = Annotated[
    float, typer.Option("--confidence", metavar="P", min=0.5, max=0.9999, help="Level of the intervals.")
]
CorrectionName = Annotated[
    str,
    typer.Option("--correction", metavar="NAME", help="Of p-values for the number of tests: holm, bh, none."),
]

PRECISIONS = ("auto", "bf16", "fp32")


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Raise unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"{option} {value}: there is none", hint=did_you_mean(value, known))


def check_precision(value: str) -> None:
    """Raise unless it names a precision."""
    check_choice("--precision", value, PRECISIONS)
