"""`cpt corpus stats`, `inspect` and `sample` show the ledger, the removals and the documents of a corpus."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.errors import UsageError, did_you_mean
from cpt.formatting import size

if TYPE_CHECKING:
    from cpt.corpus.documents import Document
    from cpt.corpus.examples import Example

CorpusArgument = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="A corpus: its own folder, its stage's, or that of a run."),
]
Source = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="One source alone: domain, replay, general.")
]

_SHOWN = 300
"""Characters of a text in a table's place."""


def stats(corpus: CorpusArgument, as_json: Json = False) -> None:
    """Show the ledger of a corpus: documents, bytes and tokens of every source, in and out.

    Example: cpt corpus stats runs/medical
    """
    from cpt.corpus.index import read_index

    folder = find_corpus(corpus)
    index = read_index(folder)
    if as_json:
        return print_json({"folder": str(folder), "sources": index.ledger()})
    return print_ledger(folder)


def inspect(
    corpus: CorpusArgument,
    source: Source = None,
    block: Annotated[
        str | None,
        typer.Option("--block", metavar="NAME", help="One block or reason alone: duplicate, gopher, pii."),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=1, help="Most examples of each block and source.")
    ] = 5,
    as_json: Json = False,
) -> None:
    """Show examples of what a corpus removed or rewrote, by source and block.

    Example: cpt corpus inspect runs/medical --block duplicate
    """
    from cpt.corpus.examples import read_examples

    folder = find_corpus(corpus)
    found = read_examples(folder)
    _require_known("source", source, {each.source for each in found})
    _require_known("block", block, {each.block for each in found})
    chosen = [
        each
        for each in found
        if (source is None or each.source == source) and (block is None or each.block == block)
    ]
    seen: Counter[tuple[str, str]] = Counter()
    shown: list[Example] = []
    for each in chosen:
        seen[each.source, each.block] += 1
        if seen[each.source, each.block] <= most:
            shown.append(each)
    if as_json:
        return print_json([each._asdict() for each in shown])
    return _print_examples(shown)


def sample(
    corpus: CorpusArgument,
    source: Source = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Side of the documents: train or heldout.")
    ] = "train",
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, help="Number of documents of each source.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the choice.")] = 0,
    as_json: Json = False,
) -> None:
    """Show documents of a corpus, drawn at random: the same ones for the same seed.

    Example: cpt corpus sample runs/medical --source domain --count 5
    """
    from cpt.corpus.index import read_index

    folder = find_corpus(corpus)
    sources = {name: counts for name, counts in read_index(folder).sources.items() if split in counts.splits}
    if not sources:
        raise UsageError(f"{folder}: no source has a side {split!r}", hint="The sides are train and heldout.")
    _require_known("source", source, set(sources))
    drawn = [
        (name, document)
        for name in sources
        if source in (None, name)
        for document in _drawn(folder, name, split, count, seed)
    ]
    if as_json:
        return print_json([{"source": name, "id": each.id, "text": each.text} for name, each in drawn])
    console = out()
    for name, document in drawn:
        console.print(f"{name}  {document.id}", style="bold")
        console.print(_shortened(document.text, 10 * _SHOWN), soft_wrap=True)
        console.print()
    return None


def find_corpus(folder: Path) -> Path:
    """Return the corpus folder at a path, or of the newest corpus of a stage's or run's folder.

    Raises:
        UsageError: There is none.
    """
    from cpt.recipe.journal import find_run

    for place in (folder, folder / "corpus"):
        if (place / "corpus.json").exists():
            return place
    if (folder / "run.json").exists():
        records = find_run(folder.parent, folder.name).finished()
        found = [record.path("corpus") for record in records.values() if "corpus" in record.kinds]
        if found:
            return found[-1]
    raise UsageError(
        f"{folder}: no corpus", hint="Name a corpus folder, a run with a finished corpus stage, or build one."
    )


def print_ledger(folder: Path) -> None:
    """Print a corpus's ledger as a table."""
    from cpt.corpus.index import read_index

    table = rows("source", "", "documents#", "bytes#", "tokens#")
    for name, line in read_index(folder).ledger().items():
        table.add_row("", name, "in", f"{line['documents_in']:,}", size(line["bytes_in"]), "")
        for reason, amount in line["removed"].items():
            if amount["documents"] or amount["bytes"]:
                taken = f"-{amount['documents']:,}" if amount["documents"] else ""
                sign = "+" if amount["bytes"] < 0 else "-"
                table.add_row("", "", reason, taken, f"{sign}{size(abs(amount['bytes']))}", "")
        for block, count in line["rewritten"].items():
            table.add_row("", "", f"{block}: rewritten", f"{count:,}", "", "")
        for block, count in line["unknown"].items():
            if count:
                table.add_row("", "", f"{block}: unknown, kept", f"{count:,}", "", "")
        tokens = "\N{EN DASH}" if line["tokens"] is None else f"{line['tokens']:,}"
        out_ = (f"{line['documents_out']:,}", size(line["bytes_out"]), tokens)
        table.add_row("", "", "out", *out_)
    out().print(table)


def _require_known(what: str, name: str | None, known: set[str]) -> None:
    if name is not None and name not in known:
        there = f"There are {', '.join(sorted(known))}." if known else "There are none."
        raise UsageError(f"no {what} {name!r}", hint=did_you_mean(name, known) or there)


def _print_examples(examples: list[Example]) -> None:
    console = out()
    if not examples:
        return console.print("No examples: nothing was removed or rewritten.")
    place: tuple[str, str] | None = None
    for each in examples:
        if (each.source, each.block) != place:
            place = (each.source, each.block)
            console.print(f"{each.source}: {each.block}", style="bold")
        console.print(f"  {each.id}{f' ({each.detail})' if each.detail else ''}")
        console.print(f"    - {_shortened(each.before, _SHOWN)}", soft_wrap=True)
        if each.after is not None:
            console.print(f"    + {_shortened(each.after, _SHOWN)}", soft_wrap=True)
    return None


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _drawn(folder: Path, source: str, split: str, count: int, seed: int) -> list[Document]:
    """Return the documents with the lowest hashes of (seed, id), in reading order; holds no others."""
    from cpt.corpus.documents import read_documents

    def ranked() -> Iterator[tuple[bytes, int, Document]]:
        for at, document in enumerate(read_documents(folder, source, split)):
            key = f"{seed}\0{document.id}\0{at}".encode()
            yield blake2b(key, digest_size=8).digest(), at, document

    chosen: list[Any] = heapq.nsmallest(count, ranked(), key=lambda each: each[:2])
    return [document for _, _, document in sorted(chosen, key=lambda each: each[1])]
