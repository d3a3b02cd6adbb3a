"""Select the best documents of a source up to a number of tokens, and count the others by reason.

Ratings are kept batch by batch, so that a killed run continues where it was.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from cpt.atomic import atomic_file
from cpt.corpus.build import check_sums
from cpt.corpus.digests import Digests, digest
from cpt.corpus.document_tokenizer import DocumentTokenizer
from cpt.corpus.documents import Document, DocumentWriter, documents_path, read_documents
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.progress import Progress

REPEATED_TOKENS = 8
"""Length of a stretch of tokens that counts as repetition when it occurs in a document twice."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Candidates:
    """The training documents of a source, in the order in which they are stored.

    Attributes:
        digests: Digest of each text.
        tokens: int64 (documents,), tokens with start and end tokens.
        repeated: float64 (documents,), share of each that repeats (`repetition`).
    """

    digests: Digests
    tokens: np.ndarray
    repeated: np.ndarray

    def __len__(self) -> int:
        return len(self.digests)


def candidates(corpus: Path, source: str, tokenizer: DocumentTokenizer) -> Candidates:
    """Count the tokens and the repetition of a source's training documents."""
    digests, tokens, repeated = Digests(), array("q"), array("d")

    def noted() -> Iterator[Document]:
        for document in read_documents(corpus, source, "train"):
            digests.append(digest(document.text))
            yield document

    for pieces in tokenizer.pieces(noted()):
        tokens.append(sum(map(len, pieces)))
        repeated.append(repetition(np.concatenate(pieces)))
    return Candidates(digests, np.array(tokens, dtype=np.int64), np.array(repeated, dtype=np.float64))


def repetition(tokens: np.ndarray) -> float:
    """Return the share, 0 to 1, of stretches of `REPEATED_TOKENS` tokens that occur earlier in a document."""
    count = len(tokens) - REPEATED_TOKENS + 1
    if count < 2:
        return 0.0
    hashed = np.zeros(count, dtype=np.uint64)
    for offset in range(REPEATED_TOKENS):  # in place: the copies of a long document would cost memory
        hashed *= _FACTOR
        hashed += tokens[offset : offset + count].astype(np.uint64)
        hashed += np.uint64(1)
        hashed ^= hashed >> np.uint64(29)
    return 1 - len(np.unique(hashed)) / count


KEPT = ""
"""The reason of a document that is not left out."""

SELECTED_OTHERS = "not_selected"
TOO_SHORT = "too_short"
REPETITIVE = "repetitive"


def unfit(found: Candidates, min_tokens: int, max_repetition: float) -> np.ndarray:
    """Return why documents cannot be selected at any rating: str (documents,), `KEPT` if they can.

    Perplexity alone would choose them first: very short and repetitive texts are easy to predict and teach
    nothing.
    """
    reasons = np.full(len(found), KEPT, dtype=object)
    reasons[found.repeated > max_repetition] = REPETITIVE
    reasons[found.tokens < min_tokens] = TOO_SHORT
    return reasons


def best(found: Candidates, ratings: np.ndarray, reasons: np.ndarray, tokens: int) -> np.ndarray:
    """Mark all but the fewest best documents that hold `tokens` tokens as `not_selected`.

    Args:
        ratings: float64 (documents,), lower is better. Ties go by the documents' digests, so that the choice
            does not depend on the reading order.
        reasons: Result of `unfit`; only documents that it keeps can be chosen.

    Returns:
        The reasons with those of the documents not chosen.
    """
    able = np.flatnonzero(reasons == KEPT)
    order = _by_rating(found, ratings, able)
    enough = int(np.searchsorted(np.cumsum(found.tokens[order]), tokens)) + 1
    result = reasons.copy()
    result[order[enough:]] = SELECTED_OTHERS
    return result


def _by_rating(found: Candidates, ratings: np.ndarray, able: np.ndarray) -> np.ndarray:
    """Return some documents in the order of their ratings, and of their digests: int64 (able,)."""
    high, low = found.digests.halves()[:, able]
    return np.asarray(able[np.lexsort((low, high, ratings[able]))])


def nearest(found: Candidates, ratings: np.ndarray, tokens: float) -> np.ndarray:
    """Return reasons that keep the first documents by rating, at least one, up to about `tokens` tokens."""
    order = _by_rating(found, ratings, np.arange(len(found)))
    sums = np.cumsum(found.tokens[order])
    last = int(np.abs(sums - tokens).argmin())
    result = np.full(len(found), KEPT, dtype=object)
    result[order[last + 1 :]] = SELECTED_OTHERS
    return result


def chance(digests: Sequence[bytes], seed: int) -> np.ndarray:
    """Return ratings from 0 to 1 by a hash of (seed, digest), each independent of the other documents."""
    salt = seed.to_bytes(16, "little", signed=True)
    hashed = (hashlib.blake2b(key, digest_size=8, salt=salt, person=b"selection").digest() for key in digests)
    numbers = (int.from_bytes(each, "little") for each in hashed)
    return np.fromiter(numbers, np.uint64, len(digests)) / 2**64


def keep(corpus: Path, source: str, counts: SourceCounts, reasons: np.ndarray) -> None:
    """Write a source's training documents again without those that have a reason, and count these."""
    path = documents_path(corpus, source, "train")
    del counts.splits["train"]
    others = dict(counts.splits)
    counts.splits = {}
    with atomic_file(path, durable=False) as scratch, DocumentWriter(scratch) as writer:
        for document, reason in zip(read_documents(corpus, source, "train"), reasons, strict=True):
            if reason == KEPT:
                counts.keep("train", document)
                writer.write(document)
            else:
                counts.remove(reason, document.text)
    counts.splits |= others
    check_sums(counts)


def texts_to_rate(corpus: Path, source: str, reasons: np.ndarray) -> Iterator[Document]:
    """Yield the training documents of a source that have no reason to be left out."""
    for document, reason in zip(read_documents(corpus, source, "train"), reasons, strict=True):
        if reason == KEPT:
            yield document


Rater = Callable[[list[str]], np.ndarray]
"""A function from texts to ratings, float64 (texts,); lower is better."""

_BYTES = 8


def rate(
    documents: Iterable[Document],
    total: int,
    make: Callable[[], Rater],
    kept: Path,
    progress: Progress,
    at_once: int = 32,
) -> np.ndarray:
    """Rate all documents, in order.

    Args:
        total: Number of documents.
        make: Function that prepares the rater; not called when everything is rated already.
        kept: File to which ratings are appended batch by batch, and from which an earlier attempt's are read.
        at_once: Number of documents of a batch.

    Raises:
        DataError: A text has no finite rating.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    batch_bytes = at_once * _BYTES
    rater: Rater | None = None
    with kept.open("a+b") as file:
        whole = total * _BYTES if file.tell() == total * _BYTES else file.tell() // batch_bytes * batch_bytes
        file.truncate(whole)
        done = whole // _BYTES
        for batch in _batches(islice(documents, done, None), at_once):
            rater = rater or make()
            ratings = rater([document.text for document in batch])
            _require_finite(batch, ratings)
            file.write(ratings.astype("<f8").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(batch)
            progress.update(done, total, "documents")
    return np.fromfile(kept, dtype="<f8")


def _batches(documents: Iterable[Document], at_once: int) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, at_once)):
        yield batch


def _require_finite(batch: list[Document], ratings: np.ndarray) -> None:
    for document, rating in zip(batch, ratings, strict=True):
        if not np.isfinite(rating):
            raise DataError(f"document {document.id}: its rating is {rating}, so it cannot be compared")
