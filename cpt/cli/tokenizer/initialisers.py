"""Run `cpt tokenizer compare | methods | helper`: choose the initialisation of new tokens' embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.tokenizer.changes import base_for, config_of
from cpt.cli.tokenizer.options import (
    Base,
    Out,
    Seed,
    Texts,
    located,
    method_settings,
    shown,
    source_of,
    staged_output,
    step_numbers,
    texts_of,
)
from cpt.errors import UsageError
from cpt.formatting import duration
from cpt.recipe.failures import interruptible
from cpt.references import fingerprint, resolve_model, resolve_tokenizer
from tokenizer_tools.settings import EmbeddingsConfig

if TYPE_CHECKING:
    from cpt.initialiser_trial.trial import TrialResult, TrialRow

_KEYS = {"extend": "tokens", "replace": "tokenizer", "train": "tokens"}


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


@dataclass(frozen=True)
class TrialRequest:
    """The arguments of `cpt tokenizer compare`."""

    base: str
    texts: tuple[str, ...]
    general: tuple[str, ...]
    change: Mapping[str, Any]
    methods: tuple[str, ...]
    hypernet: str | None
    alm: tuple[str, ...]
    alm_boundary: float
    steps: tuple[int, ...]
    sequence_length: int
    batch: int
    rate: float
    trained: str
    heldout: float
    heldout_bytes: int
    window: int
    seed: int


def run_request(request: TrialRequest, output: Path) -> TrialResult:
    """Run a trial and write figures and picture into a folder; continue an earlier call that was stopped.

    Raises:
        UsageError: A method, a parameter of a method, or another setting is wrong.
    """
    from cpt.initialiser_trial.short_training import Trained, TrialSettings
    from cpt.initialiser_trial.trial import TrialFolder, build_corpus, run_trial
    from tokenizer_tools.change import check_initialisation

    methods = [_method(word) for word in request.methods] or _every_method()
    methods += _hypernetwork_methods(request)
    distilled = [_method(word, "--alm") for word in request.alm]
    methods += [each for each in distilled if each not in methods]
    if request.trained not in get_args(Trained):
        raise UsageError(f"--trained {request.trained}", hint=f"One of: {', '.join(get_args(Trained))}.")
    change = config_of({name: {_KEYS[name]: value} for name, value in request.change.items()})
    settings = TrialSettings(
        steps=request.steps,
        batch_sequences=request.batch,
        peak=request.rate,
        trained=request.trained,  # type: ignore[arg-type]
        heldout_bytes=request.heldout_bytes,
        window=request.window,
        boundary=request.alm_boundary or None,
        seed=request.seed,
    )
    model = resolve_model(located(request.base), shown())
    for embeddings in methods:
        if embeddings.method == "hypernetwork":  # else it is found out after all others have trained
            check_initialisation(embeddings, model)
    with interruptible("The same command continues: finished methods are kept."):
        folder = TrialFolder(output, _identity(request, methods))
        corpus = build_corpus(
            model,
            [source_of(text) for text in request.texts],
            [source_of(text) for text in request.general],
            folder.scratch / "base",
            sequence_length=request.sequence_length,
            heldout=request.heldout,
            seed=request.seed,
            progress=shown(),
        )

        def finished(row: TrialRow) -> None:
            folder.add(row)
            _show_row(row, request)

        result = run_trial(
            model,
            corpus,
            change,
            methods,
            settings,
            shown(),
            folder.scratch,
            finished,
            known=folder.rows,
            distilled=distilled,
        )
        folder.finish(result)
    return result


def _identity(request: TrialRequest, methods: Sequence[EmbeddingsConfig]) -> dict[str, Any]:
    """Return the request with the fingerprints of the files that it names."""
    from cpt.initialiser_trial.trial import label

    files = {*request.texts, *request.general, request.base, *filter(None, [request.change.get("replace")])}
    files |= {file for embeddings in methods for file in embeddings.files().values()}
    return {
        **{field.name: getattr(request, field.name) for field in fields(request)},
        "methods": [label(embeddings) for embeddings in methods],
        "content": {name: fingerprint(located(name)) for name in sorted(files)},
        "windows": "the same bytes for every tokenizer",  # rows with other windows cannot be continued
    }


def print_result(console: Console, result: TrialResult, output: Path) -> None:
    """Print the table of a trial, the best method first."""
    from cpt.initialiser_trial.trial import PICTURE, UNCHANGED

    before, after = result.bytes_per_token
    console.print(f"{before:.3f} bytes per token before, {after:.3f} after; bits per byte of held-out text:")
    general = any(row.general for row in result.rows)
    columns = [f"domain {step}#" for step in result.steps]
    columns += [f"general {step}#" for step in result.steps] if general else []
    table = rows("method", *columns, "rows in#")
    unchanged = [row for row in result.rows if row.method == UNCHANGED]
    for row in [*unchanged, *result.ranked()]:
        if not row.failure:
            seconds = "" if row in unchanged else duration(row.initialisation_seconds)
            table.add_row("", row.method, *_figures(row, result, general), seconds)
    console.print(table)
    if any(row.epochs > 1 for row in result.rows):
        console.print(
            "Training repeated the text. More text, or fewer steps, makes the comparison more reliable."
        )
    for row in result.rows:
        if row.failure:
            console.print(f"  {row.method}: {row.failure}", soft_wrap=True)
    console.print(f"{output / PICTURE}")


def _figures(row: TrialRow, result: TrialResult, general: bool) -> list[str]:
    curves = [row.domain, row.general] if general else [row.domain]
    return [f"{curve[step]:.4f}" for curve in curves for step in result.steps]


def _show_row(row: TrialRow, request: TrialRequest) -> None:
    if row.failure:
        return shown().message(f"{row.method}: {row.failure}")
    curve = ", ".join(f"{row.domain[step]:.4f} at {step}" for step in request.steps)
    return shown().message(f"{row.method}: {curve}")


def _method(word: str, option: str = "--method") -> EmbeddingsConfig:
    settings = method_settings(word)
    try:
        return EmbeddingsConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"{option} {word}: {reasons}") from error


def _hypernetwork_methods(request: TrialRequest) -> list[EmbeddingsConfig]:
    """Return the two ways to use the hypernetwork that `--hypernet` names."""
    from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

    if request.hypernet is None:
        return []
    folder = resolve_hypernetwork(located(request.hypernet), shown())
    settings = {"method": "hypernetwork", "folder": request.hypernet, **base_for(folder, request.base)}
    ways = ("copied", "predicted")
    return [EmbeddingsConfig.model_validate(settings | {"shared": shared}) for shared in ways]


def _every_method() -> list[EmbeddingsConfig]:
    from cpt.initialiser_trial.trial import label
    from tokenizer_tools.embeddings import methods

    found = [EmbeddingsConfig(method=name) for name, each in methods() if not each.needs]
    return sorted(found, key=label)
