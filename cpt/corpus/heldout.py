"""Hold out documents: which ones, how many at least and at most.

No held-out document stays in training text. Below a minimum of held-out text, figures have no interval and
tasks have no items; beyond a maximum, more of it makes no figure better and is text that nobody learns.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from cpt.atomic import atomic_file
from cpt.corpus.digests import DigestSet, KeySet, digest
from cpt.corpus.documents import Document, DocumentWriter, documents_path, read_documents
from cpt.corpus.index import SourceCounts, SplitCounts, byte_count
from cpt.errors import DataError

Split = Literal["train", "heldout"]


class Rule(Protocol):
    """A rule that puts documents on one side or the other."""

    def __call__(self, key: bytes, /) -> Split:
        """Return the side of a document with this digest."""

    def hold(self, key: bytes, size: int, /) -> Iterable[bytes]:
        """Note that a document of so many bytes is held out; return the digests of those that now train."""


def position(key: bytes, seed: int) -> float:
    """Return a document's position from 0 to 1 by a hash of (seed, digest): the lowest are held out."""
    hashed = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(hashed, "little") / 2**64


@dataclass(frozen=True)
class Minimum:
    """The minimum of held-out text of a source.

    Attributes:
        documents: Number of documents.
        bytes: Number of bytes of UTF-8 text.
        most: Largest share of the documents that is held out to reach the minimum.
    """

    documents: int
    bytes: int
    most: float

    def is_met(self, documents: int, size: int) -> bool:
        """Return True if a number of documents with a total size in bytes is enough."""
        return documents >= self.documents and size >= self.bytes

    def __str__(self) -> str:
        return f"{_documents(self.documents)} of {self.bytes:,} bytes in all"


class Always:
    """A rule that puts every document on the same side."""

    def __init__(self, split: Split) -> None:
        self._split: Split = split

    def __call__(self, key: bytes, /) -> Split:  # noqa: ARG002
        return self._split

    def hold(self, key: bytes, size: int, /) -> Iterable[bytes]:  # noqa: ARG002
        """See `Rule`."""
        return ()


class ByHash:
    """A rule that holds out the documents of the lowest positions, up to a share of them and to a size.

    A document's side does not depend on the other documents, up to the size: adding some reshuffles none. Of
    more held-out text than the size allows, the lowest positions stay. So the result does not depend on the
    order of the documents.
    """

    def __init__(
        self, share: float, seed: int, most: int | None = None, minimum: Minimum | None = None
    ) -> None:
        """Begin a rule.

        Args:
            share: Share of the documents that is held out, if the size allows.
            most: Largest number of bytes of held-out text; None: any.
            minimum: Documents and bytes that stay held out, however many bytes they are.
        """
        self._end, self._seed, self._most = share, seed, most
        self._minimum = minimum or Minimum(1, 0, 1.0)
        self._held: list[tuple[float, bytes, int]] = []  # a heap: the highest position comes first
        self._bytes = 0
        self.returned = DigestSet()
        """Digests of documents that were held out at first, and train."""

    def __call__(self, key: bytes, /) -> Split:
        return "heldout" if position(key, self._seed) < self._end else "train"

    def hold(self, key: bytes, size: int, /) -> list[bytes]:
        """See `Rule`."""
        if self._most is None:
            return []
        heapq.heappush(self._held, (-position(key, self._seed), key, size))
        self._bytes += size
        returned = []
        while self._bytes > self._most and self._can_spare(self._held[0][2]):
            last, key, size = heapq.heappop(self._held)
            self._end = -last
            self._bytes -= size
            returned.append(key)
            self.returned.add(key)
        return returned

    def _can_spare(self, size: int) -> bool:
        left = len(self._held) - 1
        return left > 0 and self._minimum.is_met(left, self._bytes - size)


def train_again(corpus: Path, source: str, rule: ByHash, train: DocumentWriter, counts: SourceCounts) -> None:
    """Move the documents that a rule holds out no longer to the end of the training documents, part by part.

    Args:
        train: Writer of the source's training documents.
        counts: Counts of the source; changed here.
    """
    path, stay, parts = documents_path(corpus, source, "heldout"), SourceCounts(), dict[str, None]()
    with atomic_file(path, durable=False) as scratch, DocumentWriter(scratch) as heldout:
        for document in read_documents(corpus, source, "heldout"):
            if digest(document.text) in rule.returned:
                parts[document.part] = None
            else:
                stay.keep("heldout", document)
                heldout.write(document)
        for part in parts:
            for document in read_documents(corpus, source, "heldout"):
                if document.part == part and digest(document.text) in rule.returned:
                    counts.keep("train", document)
                    train.write(document)
    counts.splits["heldout"] = stay.splits["heldout"]


def require_both_sides(counts: SourceCounts, fraction: float) -> None:
    """Raise unless the domain has both training and held-out documents."""
    train, heldout = (counts.splits.get(side) for side in ("train", "heldout"))
    if train and heldout:
        return
    kept = sum(split.documents for split in counts.splits.values())
    raise DataError(
        f"domain: none of the {kept:,} documents {'was held out' if train else 'is left for training'} "
        f"at heldout: {fraction:g}",
        hint="Documents are held out whole. Give more documents (a text file is one), or change heldout.",
    )


def require_heldout(source: str, counts: SourceCounts, minimum: Minimum) -> None:
    """Raise unless a source that is held out as a whole reaches the minimum."""
    held = counts.splits.get("heldout", SplitCounts())
    if minimum.is_met(held.documents, held.bytes):
        return
    raise DataError(
        f"{source}: {_documents(held.documents)} of {held.bytes:,} bytes in all; held-out text must have at "
        f"least {minimum}",
        hint="Give more documents (a text file is one), or lower heldout_min.",
    )


def hold_out_more(
    corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int, digests: KeySet
) -> int:
    """Move training documents to the held-out side until that reaches the minimum.

    The next ones in the order of the held-out rule are moved, as if the share had been larger.

    Args:
        counts: Counts of the source; changed here.
        digests: Digests of everything held out so far, of all sources; extended here.

    Returns:
        The number of documents moved.

    Raises:
        DataError: The minimum is more than the largest share of the documents.
    """
    held = counts.splits.get("heldout", SplitCounts())
    if minimum.is_met(held.documents, held.bytes):
        return 0
    last, count = _missing(corpus, source, counts, minimum, seed)
    _move(corpus, source, counts, lambda key: position(key, seed) <= last, digests)
    return count


def _missing(
    corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int
) -> tuple[float, int]:
    """Return the position up to which documents are moved, and their number."""
    positions, sizes = array("d"), array("q")
    for document in _side(corpus, source, "train", counts):
        if not document.marked:
            positions.append(position(digest(document.text), seed))
            sizes.append(byte_count(document.text))
    held = counts.splits.get("heldout", SplitCounts())
    total, documents, size = held.documents + len(positions), held.documents, held.bytes
    for at in np.argsort(positions, kind="stable").tolist():
        if documents + 1 > minimum.most * total:
            break
        documents, size = documents + 1, size + sizes[at]
        if minimum.is_met(documents, size):
            return positions[at], documents - held.documents
    raise DataError(
        f"{source}: held-out text must have at least {minimum}. `heldout` gives {_documents(held.documents)} "
        f"of {held.bytes:,} bytes; {minimum.most:.0%} of the {_documents(total)}, the most to be taken, "
        f"are {_documents(documents)} of {size:,} bytes",
        hint="Give more documents (a text file is one), or change heldout_min: documents and bytes are the "
        "least that is held out, most is the largest share of the documents.",
    )


def _move(
    corpus: Path, source: str, counts: SourceCounts, moves: Callable[[bytes], bool], heldout_keys: KeySet
) -> None:
    """Write both sides again; the moved documents come last on the held-out side.

    Args:
        moves: Function of a training document's digest.
        heldout_keys: Digests of everything held out, extended here.
    """
    paths = {side: documents_path(corpus, source, side) for side in ("train", "heldout")}
    new = SourceCounts()
    with (
        atomic_file(paths["heldout"], durable=False) as heldout_file,
        atomic_file(paths["train"], durable=False) as train_file,
        DocumentWriter(train_file) as train,
        DocumentWriter(heldout_file) as heldout,
    ):
        for document in _side(corpus, source, "heldout", counts):
            new.keep("heldout", document)
            heldout.write(document)
        for document in _side(corpus, source, "train", counts):
            key = digest(document.text)
            is_moved = not document.marked and moves(key)
            if is_moved:
                heldout_keys.add(key)
            side, writer = ("heldout", heldout) if is_moved else ("train", train)
            new.keep(side, document)
            writer.write(document)
    counts.splits = {side: new.splits[side] for side in paths if side in new.splits}


def _side(corpus: Path, source: str, side: str, counts: SourceCounts) -> Iterator[Document]:
    return read_documents(corpus, source, side) if side in counts.splits else iter(())


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count:,} documents"
