"""Rating of many documents: what is rated already is kept, so that a killed run goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from cpt.corpus.documents import Document
from cpt.corpus.tokenise import Updates
from cpt.errors import DataError

Rater = Callable[[list[str]], np.ndarray]
"""From texts to ratings, float64 (texts,); lower is better."""

_AT_ONCE = 32
_BYTES = 8


def rate(
    documents: Iterable[Document], total: int, make: Callable[[], Rater], kept: Path, progress: Updates
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
