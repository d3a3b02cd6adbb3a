"""Run `cpt tokenizer extend | prune | replace | transfer | train | transliterate`: change a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
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
    check_free,
    heldout_of,
    located,
    parameters,
    shown,
    staged_output,
    texts_of,
)
from cpt.errors import Problem, RecipeError, UsageError
from cpt.recipe.explain import findings
from cpt.references import resolve_model, resolve_tokenizer
from tokenizer_tools.change import change_tokenizer, change_vocabulary, samples_of
from tokenizer_tools.settings import VocabularyChange

_MEASURED_TEXTS = 2_000


def extend(
    base: Base,
    text: Texts,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="New tokens.")],
    output: Out,
    settings: Settings = None,
    method: MethodName = DEFAULT_METHOD,
    min_frequency: Annotated[
        int, typer.Option("--min-frequency", metavar="N", min=1, help="Do not merge rarer pairs.")
    ] = 2,
    ngrams: Annotated[
        int, typer.Option("--ngrams", metavar="N", min=1, max=3, help="Longest new token, in words.")
    ] = 1,
    prune: Annotated[
        int | None, typer.Option("--prune", metavar="N", min=1, help="Remove the N least used tokens first.")
    ] = None,
    heldout: Heldout = None,
    pad: Pad = 64,
    seed: Seed = 0,
    tokenizer_only: TokenizerOnly = False,
    as_json: Json = False,
) -> None:
    """Add tokens that a text needs, by continued BPE or the rule of the tokenizer's kind, with embeddings.

    Example: cpt tokenizer extend HuggingFaceTB/SmolLM2-135M --text medical.jsonl --tokens 1000 --out larger
    """
    config: dict[str, Any] = {
        "extend": {"tokens": tokens, "min_frequency": min_frequency, "ngrams": ngrams},
        "prune": None if prune is None else {"tokens": prune},
    }
    config |= _embeddings(method, settings, pad)
    _change(config, base, text, heldout, output, seed, tokenizer_only, as_json)


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
    _change(config, base, text, heldout, output, 0, tokenizer_only, as_json)


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
    _change(config, base, text or [], heldout, output, seed, False, as_json)


def transfer(
    hypernet: Annotated[
        str, typer.Option("--hypernet", metavar="REF", help="The hypernetwork: folder, or hub id.")
    ],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="REF", help="The other tokenizer: folder, hub id, file.")
    ],
    output: Out,
    settings: Settings = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="REF",
            help="A fine-tuned variant of the hypernetwork's source model; by default that model.",
        ),
    ] = None,
    pad: Pad = 64,
    as_json: Json = False,
) -> None:
    """Give a model any tokenizer without training, by a hypernetwork that was trained for it (ZeTT).

    Rows of tokens that both tokenizers have are copied, or predicted too with shared=predicted.

    Example: cpt tokenizer transfer --hypernet zett-smollm2 --tokenizer mistralai/Mistral-7B-v0.3 --out DIR
    """
    from tokenizer_tools.hypernetwork.folder import source_reference
    from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

    folder = resolve_hypernetwork(located(hypernet), shown())
    changed = model if model is not None else source_reference(folder)
    embeddings = {**parameters(settings or []), "method": "hypernetwork", "folder": str(folder)}
    embeddings |= base_for(folder, changed)
    config = {"replace": {"tokenizer": located(tokenizer)}, "embeddings": embeddings}
    _change({**config, "pad_to_multiple_of": pad}, changed, [], None, output, 0, False, as_json)


def base_for(folder: Path, model: str) -> dict[str, str]:
    """Return the setting `base` of the method hypernetwork: nothing if the model is the source model itself.

    Args:
        folder: Folder of the hypernetwork.
        model: Reference of the model whose vocabulary changes: the source model, or a variant of it.
    """
    from tokenizer_tools.hypernetwork.folder import fits, source_reference

    if fits(folder, resolve_model(located(model), shown())):
        return {}
    source = source_reference(folder)
    shown().message(f"the embeddings of {model} are not those of {source}: reading the rows of {source}")
    return {"base": str(resolve_model(located(source), shown()))}


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
    _change(config, base, text, heldout, output, seed, tokenizer_only, as_json)


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
        int | None, typer.Option("--tokens", metavar="N", min=1, help="Largest number of spellings to add.")
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
    _change(config, base, text or [], heldout, output, seed, tokenizer_only, as_json)


def _embeddings(method: str, settings: list[str] | None, pad: int) -> dict[str, Any]:
    return {
        "embeddings": {"method": method, **parameters(settings or [])},
        "pad_to_multiple_of": pad,
    }


def _change(
    settings: Mapping[str, Any],
    base: str,
    text: Sequence[str],
    heldout: Sequence[str] | None,
    output: Path,
    seed: int,
    tokenizer_only: bool,
    as_json: bool,
) -> None:
    """Change a vocabulary as the recipe's stage does, write the folder, print the result."""
    from tokenizer_tools.measure import compression

    config = config_of(settings)
    check_free(output)
    _require_text(config, text, tokenizer_only)
    texts = texts_of(text)
    measured = heldout_of(heldout, text) if heldout else texts
    samples = samples_of(measured())
    source = resolve_tokenizer(located(base)) if tokenizer_only else resolve_model(located(base), shown())
    with staged_output(output) as folder:
        if tokenizer_only:
            facts = change_tokenizer(config, source, texts, folder, samples=samples, progress=shown())
        else:
            facts = change_vocabulary(
                config, source, texts, folder, samples=samples, seed=seed, progress=shown()
            )
        facts |= compression(source, folder, list(islice(measured(), _MEASURED_TEXTS)))
        if "bytes_per_token_after" in facts:
            facts["measured_on"] = "held-out text" if heldout else "the text that was learnt from"
    if as_json:
        print_json({"folder": str(output), **facts})
    else:
        _print(facts, output)


def _require_text(config: VocabularyChange, text: Sequence[str], tokenizer_only: bool) -> None:
    from tokenizer_tools.embeddings import method

    name = config.initialisation.method
    if not text and not tokenizer_only and method(name).needs_texts:
        raise UsageError(f"{name} learns from text", hint="Give --text FILE, or choose another --method.")
    if tokenizer_only and config.embeddings.model_extra:
        raise UsageError("--tokenizer-only makes no rows", hint="Leave out the method's parameters.")


def config_of(settings: Mapping[str, Any]) -> VocabularyChange:
    """Return the settings of a change of vocabulary.

    Raises:
        RecipeError: The settings have mistakes; it names all of them.
    """
    data = {key: value for key, value in settings.items() if value is not None}
    try:
        return VocabularyChange.model_validate(data)
    except ValidationError as error:
        problems = [
            Problem(found.message, key=".".join(map(str, found.where)), hint=found.hint)
            for found in findings(error, VocabularyChange, data)
        ]
        raise RecipeError(problems) from error


def _print(facts: Mapping[str, Any], output: Path) -> None:
    console = out()
    console.print(Text.assemble((str(output), "bold")))
    shown_facts = {**facts, **facts.get("initialisation", {})}
    table = rows("", "#")
    for key, name in (
        ("removed", "tokens removed"),
        ("added", "tokens added"),
        ("after", "tokens now"),
        ("rows", "rows of the embedding"),
        ("copied_rows", "rows copied bit by bit"),
        ("new_rows", "rows made"),
        ("spelt_by_bytes", "of them read byte by byte"),
        ("pieces_cut_off", "of them read without their last pieces"),
        ("without_text", "of them special tokens, mean of all rows"),
    ):
        if shown_facts.get(key) is not None:
            table.add_row("", name, f"{shown_facts[key]:,}")
    console.print(table)
    if "bytes_per_token_after" in facts:
        before, after = facts["bytes_per_token_before"], facts["bytes_per_token_after"]
        console.print(
            f"  {before:.3f} bytes per token before, {after:.3f} now, "
            f"{1 - before / after:.1%} fewer tokens, on {facts['measured_on']}."
        )
    if facts.get("longest_tokens"):
        shown_tokens = " ".join(repr(token) for token in facts["longest_tokens"][:8])
        console.print(Text(f"  longest: {shown_tokens}"), soft_wrap=True)
