"""`cpt tokenizer extend | prune | replace | train | transliterate`: a model in another vocabulary."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cpt.cli.options import Json
from cpt.cli.tokenizer import values
from cpt.cli.tokenizer.change import change
from cpt.cli.tokenizer.inputs import located
from cpt.cli.tokenizer.options import (
    DEFAULT_METHOD,
    Base,
    Heldout,
    MethodName,
    OptionalTexts,
    Out,
    Pad,
    Seed,
    Settings,
    Texts,
    TokenizerOnly,
)


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


def replace(
    base: Base,
    tokenizer: Annotated[
        str, typer.Argument(metavar="TOKENIZER", help="The other tokenizer: folder, hub id, file.")
    ],
    output: Out,
    settings: Settings = None,
    text: OptionalTexts = None,
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
    text: OptionalTexts = None,
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


def _embeddings(method: str, settings: list[str] | None, pad: int) -> dict[str, Any]:
    return {
        "embeddings": {"method": method, **values.parameters(settings or [])},
        "pad_to_multiple_of": pad,
    }
