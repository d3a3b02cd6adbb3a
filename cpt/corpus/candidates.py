"""The documents that a selection is made among: their tokens and how much of them repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpt.corpus.documents import Document
from cpt.corpus.split import digest
from cpt.corpus.store import read_documents
from cpt.corpus.tokens import DocumentTokenizer

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
