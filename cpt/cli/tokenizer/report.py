"""Run `cpt tokenizer report`: measure tokenizers on texts, and what more tokens would save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.tokenizer.options import Heldout, Texts, heldout_of, located, texts_of
from cpt.errors import UsageError
from cpt.references import resolve_tokenizer


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
        typer.Option(
            "--curve", metavar="N", min=1, help="Show the savings of N more tokens. May be repeated."
        ),
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
    held_out = heldout_of(heldout, text) if heldout else None
    found = report_data(tokenizers, text, terms or [])
    curves = [curve_data(each, text, held_out, curve) for each in tokenizers] if curve else []
    if as_json:
        single = found[0] if len(found) == 1 else {"reports": found}
        return print_json(single | ({"curve": curves[0] if len(curves) == 1 else curves} if curves else {}))
    print_reports(out(), found)
    for reference, points in zip(tokenizers, curves, strict=False):
        print_curves(out(), reference, points)
    return None


def report_data(
    tokenizers: Sequence[str], texts: Sequence[str], terms: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one flat record for every tokenizer on every text."""
    from tokenizer_tools.measure import TokenizerReport, report

    def records(reference: str, found: TokenizerReport) -> list[dict[str, Any]]:
        return [
            {
                "tokenizer": reference,
                "text": name,
                "kind": found.kind,
                "size": found.size,
                "special": found.special,
                "bytes_per_token": text.bytes_per_token,
                "fertility": text.fertility,
                "bytes": text.bytes,
                "words": text.words,
                "tokens": text.tokens,
                "unknown": text.unknown,
                "unreachable": found.unreachable.count,
                "unreachable_examples": list(found.unreachable.examples),
                "split_by_pre_tokenizer": found.split_by_pre_tokenizer.count,
                "split_by_pre_tokenizer_examples": list(found.split_by_pre_tokenizer.examples),
                "unused": text.unused.count,
                "unused_share": text.unused.share,
                "unused_examples": list(text.unused.examples),
                "terms": {split.term: list(split.tokens) for split in found.terms},
            }
            for name, text in found.texts.items()
        ]

    passes = {name: texts_of([reference]) for name, reference in named_texts(texts).items()}
    return [
        record
        for reference in tokenizers
        for record in records(
            reference,
            report(
                resolve_tokenizer(located(reference)), {name: each() for name, each in passes.items()}, terms
            ),
        )
    ]


def print_reports(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Print the figures as a table, then details of each tokenizer."""
    table = rows("tokenizer", "text", "bytes/token#", "tokens/word#", "tokens#", "vocabulary#", "unused#")
    for each in found:
        fertility = "" if each["fertility"] is None else f"{each['fertility']:.3f}"
        unused = f"{each['unused']:,} ({each['unused_share']:.0%})"
        table.add_row(
            "",
            short(each["tokenizer"]),
            short(each["text"]),
            f"{each['bytes_per_token']:.3f}",
            fertility,
            f"{each['tokens']:,}",
            f"{each['size']:,}",
            unused,
        )
    console.print(table)
    for each in {record["tokenizer"]: record for record in found}.values():
        _print_tokenizer(console, each)


def _print_tokenizer(console: Console, each: Mapping[str, Any]) -> None:
    console.print(Text.assemble((short(each["tokenizer"]), "bold"), f"  {each['kind']}"), soft_wrap=True)
    for key, meaning in (
        ("unreachable", "tokens are out of reach of the model"),
        ("split_by_pre_tokenizer", "more never occur, since text is cut before the model sees it"),
    ):
        examples = " ".join(repr(token) for token in each[f"{key}_examples"][:5])
        console.print(
            Text(f"  {each[key]:,} {meaning}{': ' + examples if examples else '.'}"), soft_wrap=True
        )
    for term, tokens in each["terms"].items():
        pieces = " · ".join(repr(token) for token in tokens) or "cannot be spelt"
        console.print(Text(f"  {term}  {len(tokens)}: {pieces}"), soft_wrap=True)


def short(reference: str) -> str:
    """Return the end of a long reference, which distinguishes it from others."""
    return reference if len(reference) <= 40 else "…" + reference[-39:]


def curve_data(
    reference: str,
    texts: Sequence[str],
    heldout: Callable[[], Iterator[str]] | None,
    sizes: Sequence[int],
) -> list[dict[str, Any]]:
    """Compute the savings and costs of extensions by numbers of tokens, on held-out text if there is any."""
    from dataclasses import asdict

    from tokenizer_tools.extension_curve import extension_curve

    folder = resolve_tokenizer(located(reference))
    model = folder if (folder / "config.json").is_file() else None
    learnt, measured_on = texts_of(texts), heldout or texts_of(texts)
    points = extension_curve(folder, learnt(), list(measured_on()), sorted(sizes), model=model)
    measured = "held-out text" if heldout else "the text that was learnt from"
    return [{**asdict(point), "measured_on": measured} for point in points]


def print_curves(console: Console, reference: str, points: Sequence[Mapping[str, Any]]) -> None:
    """Print the curve as a table."""
    console.print(
        Text.assemble((short(reference), "bold"), f"  extended, measured on {points[0]['measured_on']}"),
        soft_wrap=True,
    )
    table = rows(
        "new tokens#",
        "bytes/token#",
        "tokens saved#",
        "rarest#",
        "parameters#",
        "compute per byte#",
    )
    for point in points:
        table.add_row(
            "",
            f"{point['tokens']:,}",
            f"{point['bytes_per_token']:.3f}",
            f"{point['tokens_saved']:.1%}",
            "" if point["rarest"] is None else f"{point['rarest']:,}",
            "" if point["added_parameters"] is None else f"{point['added_parameters']:,}",
            "" if point["compute_per_byte"] is None else f"{point['compute_per_byte']:.3f} of before",
        )
    console.print(table)
