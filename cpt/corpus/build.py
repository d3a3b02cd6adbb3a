"""The documents of a corpus folder: read, divided, written and counted, one source at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cpt.corpus.documents import Document, Item
from cpt.corpus.index import SourceCounts
from cpt.corpus.split import Split, divide
from cpt.corpus.store import DocumentWriter, documents_path
from cpt.errors import DataError


def rewritten(items: Iterable[Item], rewrite: Callable[[str], str]) -> Iterator[Item]:
    """The items with every document's text rewritten, before anything else is done with it."""
    for item in items:
        yield replace(item, text=rewrite(item.text)) if isinstance(item, Document) else item


def write_source(
    corpus: Path, name: str, items: Iterable[Item], rule: Callable[[bytes], Split], heldout: set[bytes]
) -> SourceCounts:
    """Write one source's documents to `documents/<name>.<split>.parquet`; memory stays bounded.

    Args:
        rule: Which side a document belongs to, by its digest (see `cpt.corpus.split`).
        heldout: Digests of everything held out so far, of all sources; grows.

    Returns:
        Counts of documents and bytes; tokens are not counted yet.

    Raises:
        DataError: No document is left.
    """
    counts = SourceCounts()
    with contextlib.ExitStack() as files:
        writers: dict[str, DocumentWriter] = {}
        for split, document in divide(items, rule, heldout, counts):
            if split not in writers:
                writers[split] = files.enter_context(DocumentWriter(documents_path(corpus, name, split)))
            writers[split].write(document)
    counts.splits = {side: counts.splits[side] for side in ("train", "heldout") if side in counts.splits}
    if not counts.splits:
        raise DataError(
            f"{name}: no documents: {describe(counts)}",
            hint="Check the source's path, format and text_field, and that its files hold text.",
        )
    return counts


def describe(counts: SourceCounts) -> str:
    """Counts in words: "12 documents in, 9 train, 1 heldout, 2 removed (duplicate 2)"."""
    parts = [f"{counts.documents_in:,} documents in"]
    parts += [f"{split.documents:,} {name}" for name, split in counts.splits.items()]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.removed.items() if count)
    removed = sum(counts.removed.values())
    return ", ".join([*parts, f"{removed:,} removed ({reasons})" if removed else "none removed"])


def require_both_sides(counts: SourceCounts, fraction: float) -> None:
    """Raise unless the domain has documents to train on and documents held out."""
    train, heldout = (counts.splits.get(side) for side in ("train", "heldout"))
    if train and heldout:
        return
    kept = sum(split.documents for split in counts.splits.values())
    raise DataError(
        f"domain: none of the {kept:,} documents {'was held out' if train else 'is left for training'} "
        f"at heldout: {fraction:g}",
        hint="Documents are held out whole. Give more documents (a text file is one), or change heldout.",
    )
