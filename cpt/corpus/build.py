"""Build the documents of a corpus folder: remove exact duplicates, hold out, write and count.

No held-out document stays in training text. Below a minimum of held-out text, figures have no interval and
tasks have no items.
"""

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from cpt.atomic import atomic_file
from cpt.corpus.blocks import Block, clean
from cpt.corpus.documents import Document, DocumentWriter, Item, Removed, documents_path, read_documents
from cpt.corpus.examples import Examples
from cpt.corpus.index import ListedSource, SourceCounts, SplitCounts
from cpt.corpus.tasks import Tasks
from cpt.errors import DataError
from cpt.models.encoding import blocks

Split = Literal["train", "heldout"]


def digest(text: str) -> bytes:
    """Hash a text to 16 bytes, equal for texts that differ only in Unicode form or white space."""
    hashed, space = hashlib.blake2b(digest_size=16), ""
    for block in blocks(text):  # a list of all words of a long text would be ten times as large as the text
        if words := unicodedata.normalize("NFC", block).split():
            hashed.update(f"{space}{' '.join(words)}".encode())
            space = " "
    return hashed.digest()


def by_hash(fraction: float, seed: int) -> Callable[[bytes], Split]:
    """Return a rule that holds out a share of documents by a hash of (seed, digest).

    A document's side does not depend on the other documents: adding some reshuffles none.
    """

    return lambda key: "heldout" if position(key, seed) < fraction else "train"


def position(key: bytes, seed: int) -> float:
    """Return a document's position from 0 to 1 by a hash of (seed, digest): the lowest are held out."""
    hashed = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(hashed, "little") / 2**64


def always(split: Split) -> Callable[[bytes], Split]:
    """Return a rule that puts every document on the same side."""
    return lambda _: split


def divide(
    items: Iterable[Item],
    rule: Callable[[bytes], Split],
    heldout: set[bytes],
    counts: SourceCounts,
    blocks: Sequence[Block] = (),
    examples: Examples | None = None,
    tasks: Tasks | None = None,
    trained: set[bytes] | None = None,
) -> Iterator[tuple[Split, Document]]:
    """Yield the documents of one source that stay, each with its side, and count all others by reason.

    Args:
        heldout: Digests of everything held out so far, of all sources; extended here. Sources with held-out
            text come first, or their documents could stay in training.
        counts: Counts of this source; extended here.
        blocks: Cleaning blocks, applied before anything else.
        examples: Collection of removed and rewritten documents; extended here.
        tasks: Place where documents are cleaned; by default this process.
        trained: Digests of all training documents so far, of all sources; extended here.
    """
    seen: set[bytes] = set()
    trained = set() if trained is None else trained
    examples = Examples("") if examples is None else examples

    def remove(item: Item, reason: str, detail: str = "") -> None:
        counts.remove(reason, item.text)
        examples.add(reason, item.id, item.text, detail=detail)

    for item in clean(items, blocks, counts, examples, tasks):
        if isinstance(item, Removed):
            remove(item, item.reason, item.detail)
            continue
        key = digest(item.text)
        split = "train" if item.marked else rule(key)  # figures on held-out text read no special tokens
        if not item.text or item.text.isspace():
            remove(item, "empty")
        elif key in seen:
            remove(item, "duplicate")
        elif split == "train" and key in heldout:
            remove(item, "duplicate_of_heldout")
            seen.add(key)
        elif split == "train" and key in trained:
            remove(item, "duplicate")
        else:
            if split == "heldout":
                seen.add(key)
            (heldout if split == "heldout" else trained).add(key)
            counts.keep(split, item)
            yield split, item
    check_sums(counts)


def check_sums(counts: SourceCounts) -> None:
    """Raise if documents or bytes are unaccounted for: in = kept + removed."""
    for what, read in (("documents", counts.documents_in), ("bytes", counts.bytes_in)):
        kept = sum(getattr(split, what) for split in counts.splits.values())
        removed = sum(getattr(amount, what) for amount in counts.removed.values())
        if read != kept + removed:
            raise DataError(
                f"internal error: {read} {what} in, but {kept} kept and {removed} removed",
                hint="Please report this.",
            )
        _check_listed(counts, what)


def _check_listed(counts: SourceCounts, what: str) -> None:
    """Raise if the listed sources do not add up to their role."""
    if not counts.listed:
        return
    read = sum(getattr(listed, f"{what}_in") for listed in counts.listed.values())
    kept = sum(getattr(counts.kept(name), what) for name in counts.listed)
    whole = sum(getattr(split, what) for split in counts.splits.values())
    if (read, kept) != (getattr(counts, f"{what}_in"), whole):
        raise DataError(
            f"internal error: listed sources have {read} {what} in and {kept} kept, but the role has "
            f"{getattr(counts, f'{what}_in')} and {whole}",
            hint="Please report this.",
        )


def rewritten(items: Iterable[Item], rewrite: Callable[[str], str]) -> Iterator[Item]:
    """Yield the items with every document's text rewritten, before anything else is done with it."""
    for item in items:
        yield replace(item, text=rewrite(item.text)) if isinstance(item, Document) else item


def write_source(
    corpus: Path,
    name: str,
    items: Iterable[Item],
    rule: Callable[[bytes], Split],
    heldout: set[bytes],
    blocks: Sequence[Block] = (),
    examples: Examples | None = None,
    tasks: Tasks | None = None,
    listed: Mapping[str, ListedSource] = MappingProxyType({}),
    trained: set[bytes] | None = None,
) -> SourceCounts:
    """Write one source's documents to `documents/<name>.<split>.parquet`, with bounded memory.

    Args:
        rule: Function from a document's digest to its side.
        heldout: Digests of everything held out so far, of all sources; extended here.
        blocks: Cleaning blocks, applied before anything else.
        examples: Collection of removed and rewritten documents; extended here.
        tasks: Place where documents are cleaned; by default this process.
        listed: Facts of the sources that the documents name, by name.
        trained: Digests of all training documents so far, of all sources; extended here.

    Returns:
        Counts of documents and bytes; tokens are not counted yet.

    Raises:
        DataError: No document is left.
    """
    counts = SourceCounts(listed=dict(listed))
    with contextlib.ExitStack() as files:
        writers: dict[str, DocumentWriter] = {}
        for split, document in divide(items, rule, heldout, counts, blocks, examples, tasks, trained):
            if split not in writers:
                writers[split] = files.enter_context(DocumentWriter(documents_path(corpus, name, split)))
            writers[split].write(document)
    counts.splits = {side: counts.splits[side] for side in ("train", "heldout") if side in counts.splits}
    first = [*SourceCounts().removed, *(block.kind for block in blocks)]  # whatever came first in the text
    found = sorted(
        counts.removed, key=lambda name: (first.index(name) if name in first else len(first), name)
    )
    counts.removed = {name: counts.removed[name] for name in found}
    if not counts.splits:
        raise DataError(
            f"{name}: no documents: {describe(counts)}",
            hint="Check the source's path, format and text_field, and that its files hold text.",
        )
    return counts


def describe(counts: SourceCounts) -> str:
    """Describe counts in words: "12 documents in, 9 train, 1 heldout, 2 removed (duplicate 2)"."""
    parts = [f"{counts.documents_in:,} documents in"]
    parts += [f"{split.documents:,} {name}" for name, split in counts.splits.items()]
    removed_documents = counts.removed_documents
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in removed_documents.items() if count)
    removed = sum(removed_documents.values())
    return ", ".join([*parts, f"{removed:,} removed ({reasons})" if removed else "none removed"])


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
    corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int, digests: set[bytes]
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
    moved = _missing(corpus, source, counts, minimum, seed)
    _move(corpus, source, counts, moved)
    digests |= moved
    return len(moved)


def _missing(corpus: Path, source: str, counts: SourceCounts, minimum: Minimum, seed: int) -> set[bytes]:
    """Return the digests of the documents that the held-out side lacks."""
    training = _side(corpus, source, "train", counts)
    able = [
        (digest(document.text), len(document.text.encode())) for document in training if not document.marked
    ]
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
            side, writer = ("heldout", heldout) if digest(document.text) in moved else ("train", train)
            new.keep(side, document)
            writer.write(document)
    counts.splits = {side: new.splits[side] for side in paths if side in new.splits}


def _side(corpus: Path, source: str, side: str, counts: SourceCounts) -> Iterator[Document]:
    return read_documents(corpus, source, side) if side in counts.splits else iter(())


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count:,} documents"
