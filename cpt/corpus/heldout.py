"""A minimum of held-out text: below it, figures have no interval and tasks have no items."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from cpt.corpus.documents import Document
from cpt.corpus.index import SourceCounts, SplitCounts
from cpt.corpus.split import digest, position
from cpt.corpus.store import DocumentWriter, documents_path, read_documents
from cpt.errors import DataError


@dataclass(frozen=True)
class Minimum:
    """The least held-out text of a source.

    Attributes:
        bytes: Number of bytes of UTF-8 text.
        most: Largest share of the documents that is held out to reach the minimum.
    """

    documents: int
    bytes: int
    most: float

    def is_met(self, documents: int, size: int) -> bool:
        """Return whether so many documents, of so many bytes in all, are enough."""
        return documents >= self.documents and size >= self.bytes

    def __str__(self) -> str:
        return f"{_documents(self.documents)} of {self.bytes:,} bytes in all"


def require_heldout(source: str, counts: SourceCounts, minimum: Minimum) -> None:
    """Raise unless a source that is held out as a whole has the minimum."""
    held = counts.splits.get("heldout", SplitCounts())
    if minimum.is_met(held.documents, held.bytes):
        return
    raise DataError(
        f"{source}: {_documents(held.documents)} of {held.bytes:,} bytes in all; held-out text must have at "
        f"least {minimum}",
        hint="Give more documents (a text file is one), or lower heldout_min.",
    )


def hold_out_more(
    corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int, digests: set[bytes]
) -> int:
    """Move training documents to the held-out side until that has the minimum.

    The next ones in the order of the held-out rule are moved, as if the share had been larger.

    Args:
        counts: Of the source; changed.
        digests: Digests of everything held out so far, of all sources; grows.

    Returns:
        The number of documents moved.

    Raises:
        DataError: The minimum is more than the largest share of the documents.
    """
    held = counts.splits.get("heldout", SplitCounts())
    if minimum.is_met(held.documents, held.bytes):
        return 0
    moved = _missing(corpus, source, counts, minimum, seed)
    _move(corpus, source, counts, moved)
    digests |= moved
    return len(moved)


def _missing(corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int) -> set[bytes]:
    """Return the digests of the documents that the held-out side lacks."""
    training = _side(corpus, source, "train", counts)
    able = [(digest(document.text), len(document.text.encode())) for document in training]
    able.sort(key=lambda each: position(each[0], seed))
    held = counts.splits.get("heldout", SplitCounts())
    total, documents, size = held.documents + len(able), held.documents, held.bytes
    moved: set[bytes] = set()
    for key, length in able:
        if documents + 1 > minimum.most * total:
            break
        moved.add(key)
        documents, size = documents + 1, size + length
        if minimum.is_met(documents, size):
            return moved
    raise DataError(
        f"{source}: held-out text must have at least {minimum}. `heldout` gives {_documents(held.documents)} "
        f"of {held.bytes:,} bytes; {minimum.most:.0%} of the {_documents(total)}, the most to be taken, "
        f"are {_documents(documents)} of {size:,} bytes",
        hint="Give more documents (a text file is one), or change heldout_min: documents and bytes are the "
        "least that is held out, most is the largest share of the documents.",
    )


def _move(corpus: Path, source: str, counts: SourceCounts, moved: Set[bytes]) -> None:
    """Write both sides again; the moved documents come last on the held-out side."""
    paths = {side: documents_path(corpus, source, side) for side in ("train", "heldout")}
    aside = {side: path.with_suffix(".tmp") for side, path in paths.items()}
    new = SourceCounts()
    with DocumentWriter(aside["train"]) as train, DocumentWriter(aside["heldout"]) as heldout:
        for document in _side(corpus, source, "heldout", counts):
            new.keep("heldout", document)
            heldout.write(document)
        for document in _side(corpus, source, "train", counts):
            side, writer = ("heldout", heldout) if digest(document.text) in moved else ("train", train)
            new.keep(side, document)
            writer.write(document)
    for side, path in paths.items():
        aside[side].replace(path)
    counts.splits = {side: new.splits[side] for side in paths if side in new.splits}


def _side(corpus: Path, source: str, side: str, counts: SourceCounts) -> Iterator[Document]:
    return read_documents(corpus, source, side) if side in counts.splits else iter(())


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count:,} documents"
