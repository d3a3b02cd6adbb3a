"""`cpt tokenizer methods` and `cpt tokenizer helper`: how new rows can be made, and a helper to make them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import out, print_json
from cpt.cli.tokenizer.inputs import located, shown, texts_of
from cpt.cli.tokenizer.options import Out, Seed, Texts
from cpt.cli.tokenizer.output_folder import written_aside
from cpt.references import resolve_tokenizer


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
