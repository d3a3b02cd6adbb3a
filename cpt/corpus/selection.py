"""The documents that a selection is made among: their tokens and how much of them repeats.

Which documents of a source stay: the best up to a number of tokens, and why the others go.

Rating of many documents: what is rated already is kept, so that a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from cpt.corpus.build import check_sums, digest
from cpt.corpus.documents import Document, DocumentWriter, documents_path, read_documents
from cpt.corpus.index import SourceCounts
from cpt.corpus.tokenise import DocumentTokenizer
from cpt.errors import DataError
from cpt.progress import Progress

REPEATED_TOKENS = 8
"""A stretch of so many tokens that stands in a document twice counts as repetition."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Candidates:
    """A source's training documents, in the order in which they are stored.

    digests: of each text, 16 bytes. tokens: int64 (documents,), start and end tokens included.
    repeated: float64 (documents,), the share of each that repeats (`repetition`).
    """

    digests: list[bytes]
    tokens: np.ndarray
    repeated: np.ndarray

    def __len__(self) -> int:
        return len(self.digests)


def candidates(corpus: Path, source: str, tokenizer: DocumentTokenizer) -> Candidates:
    """Count the training documents of a source of a corpus folder."""
    digests: list[bytes] = []
    tokens: list[int] = []
    repeated: list[float] = []

    def noted() -> Iterator[Document]:
        for document in read_documents(corpus, source, "train"):
            digests.append(digest(document.text))
            yield document

    for pieces in tokenizer.pieces(noted()):
        tokens.append(sum(map(len, pieces)))
        repeated.append(repetition(np.concatenate(pieces)))
    return Candidates(digests, np.array(tokens, dtype=np.int64), np.array(repeated))


def repetition(tokens: np.ndarray) -> float:
    """The share of a document's stretches of `REPEATED_TOKENS` tokens that stood in it before; 0 to 1."""
    count = len(tokens) - REPEATED_TOKENS + 1
    if count < 2:
        return 0.0
    hashed = np.zeros(count, dtype=np.uint64)
    for offset in range(REPEATED_TOKENS):  # in place: of a long document every copy counts
        hashed *= _FACTOR
        hashed += tokens[offset : offset + count].astype(np.uint64)
        hashed += np.uint64(1)
        hashed ^= hashed >> np.uint64(29)
    return 1 - len(np.unique(hashed)) / count


KEPT = ""
"""Stands where another document has the reason for which it is left out."""

SELECTED_OTHERS = "not_selected"
TOO_SHORT = "too_short"
REPETITIVE = "repetitive"


def unfit(found: Candidates, min_tokens: int, max_repetition: float) -> np.ndarray:
    """Why a document cannot be selected, whatever its rating: str (documents,), `KEPT` where it can.

    Perplexity alone would choose them first: a very short text, and one that repeats itself, are easy to
    predict and teach nothing.
    """
    reasons = np.full(len(found), KEPT, dtype=object)
    reasons[found.repeated > max_repetition] = REPETITIVE
    reasons[found.tokens < min_tokens] = TOO_SHORT
    return reasons


def best(found: Candidates, ratings: np.ndarray, reasons: np.ndarray, budget: int) -> np.ndarray:
    """The reasons, with `not_selected` for all but the fewest best documents that hold `budget` tokens.

    Args:
        ratings: float64 (documents,), lower is better; equal ones go by the documents' digests, so that
            the choice does not depend on the order in which they are read.
        reasons: from `unfit`; only documents that these keep can be chosen.
    """
    able = np.flatnonzero(reasons == KEPT)
    order = np.array(sorted(able, key=lambda at: (ratings[at], found.digests[at])), dtype=np.int64)
    enough = int(np.searchsorted(np.cumsum(found.tokens[order]), budget)) + 1
    result = reasons.copy()
    result[order[enough:]] = SELECTED_OTHERS
    return result


def nearest(found: Candidates, ratings: np.ndarray, budget: float) -> np.ndarray:
    """Reasons that keep the first documents by rating whose tokens come nearest to `budget`; one at least."""
    order = np.array(sorted(range(len(found)), key=lambda at: (ratings[at], found.digests[at])))
    sums = np.cumsum(found.tokens[order])
    last = int(np.abs(sums - budget).argmin())
    result = np.full(len(found), KEPT, dtype=object)
    result[order[last + 1 :]] = SELECTED_OTHERS
    return result


def chance(digests: Sequence[bytes], seed: int) -> np.ndarray:
    """Ratings from 0 to 1 by a hash of (seed, digest): no document's depends on the others."""
    salt = seed.to_bytes(16, "little", signed=True)
    hashed = [hashlib.blake2b(key, digest_size=8, salt=salt, person=b"selection").digest() for key in digests]
    return np.array([int.from_bytes(each, "little") for each in hashed]) / 2**64


def keep(corpus: Path, source: str, counts: SourceCounts, reasons: np.ndarray) -> None:
    """Write a source's training documents again without those that have a reason, which are counted."""
    path = documents_path(corpus, source, "train")
    aside = path.with_suffix(".tmp")
    del counts.splits["train"]
    others = dict(counts.splits)
    counts.splits = {}
    with DocumentWriter(aside) as writer:
        for document, reason in zip(read_documents(corpus, source, "train"), reasons, strict=True):
            if reason == KEPT:
                counts.keep("train", document)
                writer.write(document)
            else:
                counts.remove(reason)
    counts.splits |= others
    aside.replace(path)
    check_sums(counts)


def texts_to_rate(corpus: Path, source: str, reasons: np.ndarray) -> Iterator[Document]:
    """The training documents of a source that have no reason to be left out."""
    for document, reason in zip(read_documents(corpus, source, "train"), reasons, strict=True):
        if reason == KEPT:
            yield document


Rater = Callable[[list[str]], np.ndarray]
"""From texts to ratings, float64 (texts,); lower is better."""

_AT_ONCE = 32
_BYTES = 8


def rate(
    documents: Iterable[Document], total: int, make: Callable[[], Rater], kept: Path, progress: Progress
) -> np.ndarray:
    """Rate all documents, in order.

    Args:
        total: how many there are.
        make: makes the rater ready; not called when everything is rated already.
        kept: file that ratings are added to, batch by batch, and read from when it is there.

    Raises:
        DataError: a text has no rating.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    batch_bytes = _AT_ONCE * _BYTES
    rater: Rater | None = None
    with kept.open("a+b") as file:
        whole = total * _BYTES if file.tell() == total * _BYTES else file.tell() // batch_bytes * batch_bytes
        file.truncate(whole)
        done = whole // _BYTES
        for batch in _batches(islice(documents, done, None)):
            rater = rater or make()
            ratings = rater([document.text for document in batch])
            _require_finite(batch, ratings)
            file.write(ratings.astype("<f8").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(batch)
            progress.update(done, total, "documents")
    return np.fromfile(kept, dtype="<f8")


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, _AT_ONCE)):
        yield batch


def _require_finite(batch: list[Document], ratings: np.ndarray) -> None:
    for document, rating in zip(batch, ratings, strict=True):
        if not np.isfinite(rating):
            raise DataError(f"document {document.id}: its rating is {rating}, so it cannot be compared")
