"""Exact duplicates out, a held-out split by document, and no held-out document left in training text."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.models.encoding import blocks

Split = Literal["train", "heldout"]


def digest(text: str) -> bytes:
    """16 bytes that are the same for texts that differ only in Unicode form or white space."""
    hashed, space = hashlib.blake2b(digest_size=16), ""
    for block in blocks(text):  # a list of all words of a long text is ten times as large as the text
        if words := unicodedata.normalize("NFC", block).split():
            hashed.update(f"{space}{' '.join(words)}".encode())
            space = " "
    return hashed.digest()


def by_hash(fraction: float, seed: int) -> Callable[[bytes], Split]:
    """A rule that holds out a share of documents by a hash of (seed, digest).

    A document's side does not depend on the other documents: adding some reshuffles none.
    """

    return lambda key: "heldout" if position(key, seed) < fraction else "train"


def position(key: bytes, seed: int) -> float:
    """Return a document's place from 0 to 1, by a hash of (seed, digest): the lowest are held out."""
    hashed = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(hashed, "little") / 2**64


def always(split: Split) -> Callable[[bytes], Split]:
    """A rule that puts every document on the same side."""
    return lambda _: split


def divide(
    items: Iterable[Item], rule: Callable[[bytes], Split], heldout: set[bytes], counts: SourceCounts
) -> Iterator[tuple[Split, Document]]:
    """Yield the documents of one source that stay, each with its side, and count all others by reason.

    Args:
        heldout: Digests of everything held out so far, of all sources; grows here. Sources with
            held-out text of their own come first, or their documents could stay in training.
        counts: Of this source; `documents_in`, `removed` and the splits' documents and bytes grow here.
    """
    seen: set[bytes] = set()
    for item in items:
        counts.documents_in += 1
        if isinstance(item, Removed):
            counts.remove(item.reason)
            continue
        key = digest(item.text)
        split = rule(key)
        if not item.text or item.text.isspace():
            counts.remove("empty")
        elif key in seen:
            counts.remove("duplicate")
        elif split == "train" and key in heldout:
            counts.remove("duplicate_of_heldout")
            seen.add(key)
        else:
            seen.add(key)
            if split == "heldout":
                heldout.add(key)
            counts.keep(split, item)
            yield split, item
    check_sums(counts)


def check_sums(counts: SourceCounts) -> None:
    """Raise if documents are unaccounted for: in = kept + removed."""
    kept = sum(split.documents for split in counts.splits.values())
    removed = sum(counts.removed.values())
    if counts.documents_in != kept + removed:
        raise DataError(
            f"internal error: {counts.documents_in} documents in, but {kept} kept and {removed} removed",
            hint="Please report this.",
        )
