"""`cpt tokenizer compare`: which initialisation leaves this model best."""

from __future__ import annotations

from typing import Annotated

import typer

from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json
from cpt.cli.tokenizer import values
from cpt.cli.tokenizer.options import Base, Out, Seed, Texts
from cpt.errors import UsageError


def compare(
    base: Base,
    text: Texts,
    output: Out,
    general: Annotated[
        list[str] | None,
        typer.Option("--general", metavar="[NAME=]FILE", help="General text that is only measured on."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=1, help="Extend by so many tokens.")
    ] = None,
    replace: Annotated[
        str | None, typer.Option("--replace", metavar="TOKENIZER", help="Or: take this tokenizer.")
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", metavar="N", min=1, help="Or: train one of so many tokens.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A method, with parameters as `NAME:key=value,key=value`. May be repeated; all if left out.",
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option("--steps", metavar="N,N", help="Training steps after which to measure.")
    ] = "0,50,200",
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", metavar="N", min=16, help="Tokens of a training step's row.")
    ] = 512,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Rows of a training step.")] = 1,
    rate: Annotated[
        float, typer.Option("--rate", metavar="R", min=1e-9, max=1, help="Learning rate.")
    ] = 1e-4,
    trained: Annotated[
        str, typer.Option("--trained", metavar="WHAT", help="all weights, or embeddings alone.")
    ] = "all",
    heldout: Annotated[
        float,
        typer.Option(
            "--heldout", metavar="SHARE", min=1e-6, max=0.49, help="Share of the documents to measure on."
        ),
    ] = 0.05,
    heldout_bytes: Annotated[
        int,
        typer.Option("--heldout-bytes", metavar="N", min=100, help="Bytes to measure on per source."),
    ] = 40_000,
    window: Annotated[
        int,
        typer.Option("--window", metavar="N", min=2, help="Most tokens of it that a model reads at once."),
    ] = 1024,
    seed: Seed = 17,
    as_json: Json = False,
) -> None:
    """Initialise a new vocabulary by several methods, train each a little, and rank them in bits per byte.

    Loss before training misranks methods; the order after the last step is what counts. DIR receives the
    figures (comparison.json) and a picture (comparison.svg).

    Example: cpt tokenizer compare HuggingFaceTB/SmolLM2-135M --text medical.jsonl --tokens 2000 --out table
    """
    from cpt.cli.tokenizer.comparison import Asked, print_comparison, run_comparison

    changes = {"extend": tokens, "replace": replace, "train": train}
    given = {name: value for name, value in changes.items() if value is not None}
    if len(given) != 1:
        raise UsageError(
            "give one of --tokens, --replace and --train", hint="They name the change to compare."
        )
    asked = Asked(
        base=base,
        texts=tuple(named_texts(text).values()),
        general=tuple(named_texts(general or (), "--general").values()),
        change=given,
        methods=tuple(method or ()),
        steps=values.steps(steps),
        sequence_length=sequence_length,
        batch=batch,
        rate=rate,
        trained=trained,
        heldout=heldout,
        heldout_bytes=heldout_bytes,
        window=window,
        seed=seed,
    )
    comparison = run_comparison(asked, output)
    if as_json:
        return print_json(comparison.as_json())
    return print_comparison(out(), comparison, output)
