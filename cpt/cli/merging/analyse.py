"""`cpt merge analyse`: measure task vectors before a merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.merging.job import parse_model, resolved
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import show_progress
from cpt.errors import UsageError
from merging.request import name_of

if TYPE_CHECKING:
    from cpt.report.schema import Vectors
    from merging.analysis.analyse import Analysis

_BASE = "base"


def analyse(
    base: Annotated[
        str, typer.Option("--base", metavar="REF", help="The model that changes are measured from.")
    ],
    add: Annotated[
        list[str],
        typer.Option("--add", metavar="[NAME=]REF", help="A model trained from it. May be repeated."),
    ],
    page: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a page with plots (HTML).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure task vectors: their lengths by part of the model, the angles between them, conflicts of sign.

    The weights are read in chunks: memory does not grow with the models. Vocabularies may differ.

    Example: cpt merge analyse --base BASE --add law=LEGAL --add med=MEDICAL --out vectors.html
    """
    _check_page(page)
    analysis = _analysis(base, add)
    facts = asdict(analysis)
    vectors = _as_facts(facts)
    if page is not None:
        _write(vectors, page)
    if as_json:
        return print_json(facts)
    _print(out(), vectors)
    if page is not None:
        out().print(f"Page: {page}", soft_wrap=True)
    return None


def _check_page(page: Path | None) -> None:
    if page is not None and page.is_dir():
        raise UsageError(f"{page} is a folder", hint=f"Name a file: {page / 'vectors.html'}.")
    if page is not None and not page.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {page.parent}", hint="Make it first.")


def _analysis(base: str, add: Sequence[str]) -> Analysis:
    """Analyse the models that flags name."""
    from merging.analysis.analyse import analyse as measure
    from merging.plan import read_inputs
    from merging.request import InputModel, MergeRequest

    with show_progress(resumable=False) as view:
        folders = resolved(_named(base, add), Path.cwd(), view)
        inputs = [InputModel(name, folder) for name, folder in folders.items()]
        first, *models = read_inputs(MergeRequest("task-arithmetic", tuple(inputs[1:]), inputs[0]))
        return measure(first, models, lambda done, total: view.update(done, total, "weights, read twice"))


def _named(base: str, add: Sequence[str]) -> dict[str, str]:
    """Return references by the models' names, the base first.

    Raises:
        UsageError: A name is given twice.
    """
    named = {_BASE: base}
    for model in (parse_model(text, weighted=False) for text in add):
        name = model.name or name_of(model.reference, named)
        if name in named:
            raise UsageError(f"two models are called {name}", hint="Give one another name: NAME=REF.")
        named[name] = model.reference
    return named


def _as_facts(facts: dict[str, Any]) -> Vectors:
    from cpt.report.schema import Vectors

    return Vectors.model_validate(facts)


def _write(vectors: Vectors, page: Path) -> None:
    from cpt.atomic import write_text
    from cpt.report.merge_pages import render_vectors

    write_text(page, render_vectors(vectors, datetime.now(UTC).isoformat(timespec="seconds")))


def _print(console: Console, found: Vectors) -> None:
    from cpt.report.summary_text import vectors_finding

    console.print(Text(vectors_finding(found), style="bold"), soft_wrap=True)
    _print_vectors(console, found)
    if found.pairs:
        _print_pairs(console, found)
    _print_parts(console, found, "kind", found.kinds)
    _print_parts(console, found, "layer", found.layers)


def _print_vectors(console: Console, found: Vectors) -> None:
    from cpt.formatting import count, fixed, percent

    carried = f"carry {percent(found.carried, 0)}#"
    table = rows("vector", "norm#", "of base#", "changed#", carried, "embeddings#", "new rows#", "rows")
    for each in found.vectors:
        changed = each.changed / each.weights if each.weights else None
        shares = (changed, each.carriers_share, each.embeddings_share, each.new_rows_share)
        of = each.rows
        lacking = "" if of is None or not of.missing else f", {count(of.missing)} of the base's missing"
        words = "" if of is None else f"{count(of.shared)} shared, {count(of.new)} new{lacking}"
        table.add_row(
            "",
            each.name,
            fixed(each.norm),
            percent(each.relative, 2),
            *(percent(share) for share in shares),
            words,
        )
    console.print(table)


def _print_pairs(console: Console, found: Vectors) -> None:
    from cpt.formatting import fixed, percent

    table = rows("pair", "cosine#", "if random#", "signs differ#", "of first's norm²#", "of second's norm²#")
    for pair in found.pairs:
        shares = (pair.conflicts, pair.conflicting_a, pair.conflicting_b)
        angle = (fixed(pair.cosine, 4), f"± {fixed(pair.random, 5)}")
        table.add_row("", f"{pair.a}, {pair.b}", *angle, *(percent(share) for share in shares))
    console.print(table)


def _print_parts(console: Console, found: Vectors, what: str, parts: Any) -> None:
    """Print norm over the base's of each vector, cosine and conflicts of each pair, by part of the model."""
    from cpt.formatting import fixed, percent

    names = [vector.name for vector in found.vectors]
    pairs = [f"{pair.a}, {pair.b}" for pair in found.pairs]
    headings = [f"{name}#" for name in names]
    headings += [f"{heading} {pair}#" for pair in pairs for heading in ("cosine", "signs")]
    table = rows(what, *headings)
    for place, part in enumerate(parts.names):
        cells = [percent(row[place], 2) for row in parts.relative]
        for cosine, conflicts in zip(parts.cosine, parts.conflicts, strict=True):
            cells += [fixed(cosine[place]), percent(conflicts[place])]
        table.add_row("", part, *cells)
    console.print(table)
