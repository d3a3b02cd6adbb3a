"""`cpt tokenizer compare`: which initialisation leaves this model best.

`cpt tokenizer compare`: from flags to a comparison, and the comparison as a table.

`cpt tokenizer methods` and `cpt tokenizer helper`: how new rows can be made, and a helper to make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from cpt.cli.form import duration
from cpt.cli.naming import named_texts
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.tokenizer import options
from cpt.cli.tokenizer.changes import config_of
from cpt.cli.tokenizer.options import (
    Base,
    Out,
    Seed,
    Texts,
    located,
    shown,
    source_of,
    texts_of,
    written_aside,
)
from cpt.errors import UsageError
from cpt.initialiser_trial.short_training import TrialSettings, Trained
from cpt.initialiser_trial.trial import (
    PICTURE,
    UNCHANGED,
    TrialResult,
    TrialRow,
    TrialFolder,
    build_corpus,
    compare,
    label,
)
from cpt.recipe.stopping import interruptible
from cpt.references import fingerprint, resolve_model, resolve_tokenizer
from cpt.stages.vocabulary.config import EmbeddingsConfig

_KEYS = {"extend": "tokens", "replace": "tokenizer", "train": "tokens"}


@dataclass(frozen=True)
class TrialRequest:
    """What the command line asks for."""

    base: str
    texts: tuple[str, ...]
    general: tuple[str, ...]
    change: Mapping[str, Any]
    methods: tuple[str, ...]
    steps: tuple[int, ...]
    sequence_length: int
    batch: int
    rate: float
    trained: str
    heldout: float
    heldout_bytes: int
    window: int
    seed: int


def run_comparison(asked: TrialRequest, output: Path) -> TrialResult:
    """Compare, and write figures and picture into a folder; go on with what an earlier, stopped call left.

    Raises:
        UsageError: an unknown method, a wrong parameter of one, or another wrong setting.
    """
    methods = [_method(word) for word in asked.methods] or _every_method()
    if asked.trained not in get_args(Trained):
        raise UsageError(f"--trained {asked.trained}", hint=f"One of: {', '.join(get_args(Trained))}.")
    change = config_of({name: {_KEYS[name]: value} for name, value in asked.change.items()})
    settings = TrialSettings(
        steps=asked.steps,
        batch_sequences=asked.batch,
        peak=asked.rate,
        trained=asked.trained,  # type: ignore[arg-type]
        heldout_bytes=asked.heldout_bytes,
        window=asked.window,
        seed=asked.seed,
    )
    model = resolve_model(located(asked.base), shown())
    with interruptible("The same command continues: finished methods are kept."):
        kept = TrialFolder(output, _asked(asked, methods))
        corpus = build_corpus(
            model,
            [source_of(text) for text in asked.texts],
            [source_of(text) for text in asked.general],
            kept.scratch / "base",
            sequence_length=asked.sequence_length,
            heldout=asked.heldout,
            seed=asked.seed,
            progress=shown(),
        )

        def finished(row: TrialRow) -> None:
            kept.add(row)
            _tell(row, asked)

        comparison = compare(
            model, corpus, change, methods, settings, shown(), kept.scratch, finished, known=kept.rows
        )
        kept.finish(comparison)
    return comparison


def _asked(asked: TrialRequest, methods: Sequence[EmbeddingsConfig]) -> dict[str, Any]:
    """What is asked for, with the content of the files that it names."""
    files = {*asked.texts, *asked.general, asked.base, *filter(None, [asked.change.get("replace")])}
    return {
        **{field.name: getattr(asked, field.name) for field in fields(asked)},
        "methods": [label(embeddings) for embeddings in methods],
        "content": {name: fingerprint(located(name)) for name in sorted(files)},
        "windows": "the same bytes for every tokenizer",  # rows of other windows are not gone on with
    }


def print_comparison(console: Console, comparison: TrialResult, output: Path) -> None:
    """The table, the best method first."""
    before, after = comparison.bytes_per_token
    console.print(f"{before:.3f} bytes per token before, {after:.3f} after; bits per byte of held-out text:")
    general = any(row.general for row in comparison.rows)
    columns = [f"domain {step}#" for step in comparison.steps]
    columns += [f"general {step}#" for step in comparison.steps] if general else []
    table = rows("method", *columns, "rows in#")
    unchanged = [row for row in comparison.rows if row.method == UNCHANGED]
    for row in [*unchanged, *comparison.ranked()]:
        if not row.failure:
            table.add_row("", row.method, *_figures(row, comparison, general))
    console.print(table)
    if any(row.epochs > 1 for row in comparison.rows):
        console.print("The text was gone through more than once; more text, or fewer steps, would tell more.")
    for row in comparison.rows:
        if row.failure:
            console.print(f"  {row.method}: {row.failure}", soft_wrap=True)
    console.print(f"{output / PICTURE}")


def _figures(row: TrialRow, comparison: TrialResult, general: bool) -> list[str]:
    curves = [row.domain, row.general] if general else [row.domain]
    figures = [f"{curve[step]:.4f}" for curve in curves for step in comparison.steps]
    return [*figures, "" if row.method == UNCHANGED else duration(row.initialisation_seconds)]


def _tell(row: TrialRow, asked: TrialRequest) -> None:
    if row.failure:
        return shown().message(f"{row.method}: {row.failure}")
    curve = ", ".join(f"{row.domain[step]:.4f} at {step}" for step in asked.steps)
    return shown().message(f"{row.method}: {curve}")


def _method(word: str) -> EmbeddingsConfig:
    settings = options.method(word)
    try:
        return EmbeddingsConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"--method {word}: {reasons}") from error


def _every_method() -> list[EmbeddingsConfig]:
    from tokenizer_tools.embeddings import names

    found = [EmbeddingsConfig(method=name) for name in names()]
    return sorted(found, key=label)


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

    changes = {"extend": tokens, "replace": replace, "train": train}
    given = {name: value for name, value in changes.items() if value is not None}
    if len(given) != 1:
        raise UsageError(
            "give one of --tokens, --replace and --train", hint="They name the change to compare."
        )
    asked = TrialRequest(
        base=base,
        texts=tuple(named_texts(text).values()),
        general=tuple(named_texts(general or (), "--general").values()),
        change=given,
        methods=tuple(method or ()),
        steps=options.steps(steps),
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

    with written_aside(output) as folder:
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
