"""Run `cpt tokenizer compare | methods | helper`: choose the initialisation of new tokens' embeddings."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json
from cpt.cli.tokenizer.options import (
    Base,
    Out,
    Seed,
    Texts,
    located,
    shown,
    staged_output,
    step_numbers,
    texts_of,
)
from cpt.cli.tokenizer.trial import TrialRequest, print_result, run_request
from cpt.errors import UsageError
from cpt.references import resolve_tokenizer


def compare(
    base: Base,
    text: Texts,
    output: Out,
    general: Annotated[
        list[str] | None,
        typer.Option("--general", metavar="[NAME=]FILE", help="General text, only to measure on."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=1, help="Extend the vocabulary by N tokens.")
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option("--replace", metavar="TOKENIZER", help="Or replace the tokenizer by this one."),
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", metavar="N", min=1, help="Or train a tokenizer of N tokens.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A method, with parameters as `NAME:key=value,key=value`. May be repeated; if left out, all "
            "that work without parameters.",
        ),
    ] = None,
    hypernet: Annotated[
        str | None,
        typer.Option(
            "--hypernet",
            metavar="REF",
            help="Add this hypernetwork (folder, or hub id): shared rows copied, and predicted too.",
        ),
    ] = None,
    alm: Annotated[
        list[str] | None,
        typer.Option(
            "--alm",
            metavar="NAME",
            help="A method whose model is trained twice: on the text, and by approximate likelihood matching "
            "with BASE as the teacher, for the same steps. May be repeated.",
        ),
    ] = None,
    alm_boundary: Annotated[
        float,
        typer.Option(
            "--alm-boundary",
            metavar="P",
            min=0,
            max=0.99,
            help="Least probability, for the teacher, that a word ends where a stretch of text is compared. "
            "0: also within words, as for text without spaces between words.",
        ),
    ] = 0.1,
    steps: Annotated[
        str, typer.Option("--steps", metavar="N,N", help="Training steps after which to measure.")
    ] = "0,50,200",
    sequence_length: Annotated[
        int,
        typer.Option(
            "--sequence-length", metavar="N", min=16, help="Length of a training sequence in tokens."
        ),
    ] = 512,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Sequences per training step.")
    ] = 1,
    rate: Annotated[
        float, typer.Option("--rate", metavar="R", min=1e-9, max=1, help="Learning rate.")
    ] = 1e-4,
    trained: Annotated[
        str, typer.Option("--trained", metavar="WHAT", help="Weights to train: all, or embeddings.")
    ] = "all",
    heldout: Annotated[
        float,
        typer.Option(
            "--heldout", metavar="SHARE", min=1e-6, max=0.49, help="Share of the documents to measure on."
        ),
    ] = 0.05,
    heldout_bytes: Annotated[
        int,
        typer.Option("--heldout-bytes", metavar="N", min=100, help="Bytes of held-out text per source."),
    ] = 40_000,
    window: Annotated[
        int,
        typer.Option("--window", metavar="N", min=2, help="Longest window of held-out text in tokens."),
    ] = 1024,
    seed: Seed = 17,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            metavar="N",
            min=1,
            help="Trainings of each model, in different orders of the text; more than one gives intervals.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Initialise a new vocabulary by several methods, train each a little, and rank them in bits per byte.

    Loss before training misranks methods; the order after the last step is what counts. DIR receives the
    figures (comparison.json) and a picture (comparison.svg).

    Example: cpt tokenizer compare HuggingFaceTB/SmolLM2-135M --text medical.jsonl --tokens 2000 --out table
    """
    changes = {"extend": tokens, "replace": replace, "train": train}
    given = {name: value for name, value in changes.items() if value is not None}
    if len(given) != 1:
        raise UsageError(
            "give one of --tokens, --replace and --train", hint="They name the change to compare."
        )
    request = TrialRequest(
        base=base,
        texts=tuple(named_texts(text).values()),
        general=tuple(named_texts(general or (), "--general").values()),
        change=given,
        methods=tuple(method or ()),
        hypernet=hypernet,
        alm=tuple(dict.fromkeys(alm or ())),
        alm_boundary=alm_boundary,
        steps=step_numbers(steps),
        sequence_length=sequence_length,
        batch=batch,
        rate=rate,
        trained=trained,
        heldout=heldout,
        heldout_bytes=heldout_bytes,
        window=window,
        seed=seed,
        seeds=seeds,
    )
    result = run_request(request, output)
    if as_json:
        return print_json(result.as_json())
    return print_result(out(), result, output)


def methods(as_json: Json = False) -> None:
    """List the ways to initialise new tokens' embeddings, with their parameters.

    Example: cpt tokenizer methods
    """
    from tokenizer_tools.embeddings import methods as all_methods

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "summary": method.summary,
            "reference": method.reference,
            "needs_text": method.needs_texts,
            "parameters": {
                field: {"default": info.default, "description": info.description}
                for field, info in method.parameters.model_fields.items()
            },
        }
        for name, method in all_methods()
    ]
    if as_json:
        return print_json(found)
    console = out()
    for entry in found:
        console.print(Text.assemble((entry["name"], "bold"), f"  {entry['summary']}"), soft_wrap=True)
        console.print(Text(f"    {entry['reference']}", style="dim"), soft_wrap=True)
        for field, info in entry["parameters"].items():
            line = f"    {field}={info['default']}  {info['description']}"
            console.print(Text(line), soft_wrap=True)
    return None


def helper(
    tokenizer: Annotated[str, typer.Argument(metavar="TOKENIZER", help="Folder, hub id, tokenizer file.")],
    text: Texts,
    output: Out,
    width: Annotated[int, typer.Option("--width", metavar="N", min=8, help="Width of the model.")] = 128,
    layers: Annotated[int, typer.Option("--layers", metavar="N", min=1, help="Layers of the model.")] = 2,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=1, help="Tokens to train on.")
    ] = 2_000_000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a small model from scratch on another tokenizer, as the helper of CLP-Transfer and OMP.

    Example: cpt tokenizer helper mistralai/Mistral-7B-v0.3 --text medical.jsonl --out helper
    """
    from tokenizer_tools.helper_model import train_helper

    with staged_output(output) as folder:
        trained = train_helper(
            resolve_tokenizer(located(tokenizer)),
            texts_of(text),
            folder,
            width=width,
            layers=layers,
            tokens=tokens,
            seed=seed,
            progress=shown().message,
        )
    facts = {"folder": str(output), "tokens_seen": int(trained.known_V.sum()), "tokens": len(trained.known_V)}
    if as_json:
        print_json(facts)
    else:
        out().print(
            f"{output}: a helper of {facts['tokens']:,} tokens, {facts['tokens_seen']:,} of them trained."
        )
