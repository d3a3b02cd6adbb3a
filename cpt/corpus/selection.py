"""Which documents of a source stay: the best up to a number of tokens, and why the others go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cpt.corpus.candidates import Candidates
from cpt.corpus.documents import Document
from cpt.corpus.index import SourceCounts
from cpt.corpus.split import check_sums
from cpt.corpus.store import DocumentWriter, documents_path, read_documents

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
