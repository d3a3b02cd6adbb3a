"""Declare the arguments and options that the merge commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PlanArgument = Annotated[
    Path | None,
    typer.Argument(metavar="PLAN", help="A YAML file instead of the flags: ours, or mergekit's as it is."),
]


Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="[NAME=]MODEL",
        help="Model that changes are measured from: folder, hub id, GGUF, file in a wheel.",
    ),
]


Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="[NAME=]MODEL[:WEIGHT]", help="A model and its weight. May be repeated."),
]


MethodName = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help="See cpt merge methods. \\[default: task-arithmetic]"),
]


Density = Annotated[
    float | None,
    typer.Option("--density", metavar="SHARE", help="Share of each model's changes to keep."),
]


Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="Divide the sum by the sum of the weights."),
]


Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[NAME.]KEY=VALUE",
        help="A parameter of the method, or of one model: `lambda=0.7`, `domain.density=0.3`; by layers "
        "`domain.weight=\\[0, 1]`; for some tensors "
        "`density=\\[{filter: mlp, value: 0.3}, {layers: \\[0, 8], value: 0.5}]`. May be repeated.",
    ),
]


TokenizerOf = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="base|NAME|union",
        help="Source of the result's vocabulary. \\[default: the model with every token of all, else union]",
    ),
]


SettingsOf = Annotated[
    str | None,
    typer.Option(
        "--settings-of",
        metavar="base|NAME",
        help="Source of chat template and generation settings. \\[default: as the tokenizer]",
    ),
]


ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="FILE|NAME|TEXT",
        help="A chat template instead: a file, one of mergekit's (chatml, alpaca, …), or the text itself.",
    ),
]


Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="TYPE", help="Data type of the result. \\[default: the widest of the models']"
    ),
]


ComputeDtype = Annotated[
    str | None,
    typer.Option(
        "--compute-dtype",
        metavar="TYPE",
        help="Data type of the arithmetic; `stored` for the models'. "
        "\\[default: float64 for task arithmetic, else float32]",
    ),
]


Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of random methods. \\[default: 0]")
]


ShardSize = Annotated[
    str | None,
    typer.Option(
        "--shard-size", metavar="SIZE", help="Largest size of a weight file: 500MB. \\[default: 5GB]"
    ),
]


Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="New folder for the result.")]


DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Write nothing: print what would be merged, the origin of rows, and the memory needed.",
    ),
]
