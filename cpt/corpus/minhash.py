"""Compute MinHash signatures of documents: near-duplicates agree in most of their numbers.

A document is the set of its word n-grams, without case and punctuation. Two signatures agree in each number
with the probability of the sets' Jaccard similarity s (Broder 1997). Documents whose signatures agree in a
whole band of r numbers are candidates: 1 - (1 - s^r)^b of the pairs, with b bands (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4; 14 bands of 8 rows as in FineWeb, arXiv 2406.17557).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cpt.models.encoding import blocks
from evals.overlap import words

_SEED = 1
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_CHARACTERS_AT_ONCE = 1 << 19
_DOCUMENTS_AT_ONCE = 64


class MinHash(BaseModel):
    """Documents that share most of their word n-grams with an earlier one are left out, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["minhash"] = "minhash"
    ngram: int = Field(
        default=5, ge=1, le=32, description="Number of words whose sequences documents are compared by."
    )
    bands: int = Field(
        default=14,
        ge=1,
        le=256,
        description="Bands of a signature; those that agree in one are compared.",
    )
    rows: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Numbers of a band. Pairs of similarity s are found with probability "
        "1 - (1 - s^rows)^bands: at 14 bands of 8 rows, 57% at 0.7, 92% at 0.8, 99.96% at 0.9.",
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Smallest similarity (share of n-grams in common, estimated) of near-duplicates. By "
        "default (1 / bands)^(1 / rows), the middle of the curve above: 0.72. With 0, one common band is "
        "enough.",
    )

    @property
    def numbers(self) -> int:
        """Return the count of numbers of a signature."""
        return self.bands * self.rows

    @property
    def similarity(self) -> float:
        """Return the smallest similarity of near-duplicates."""
        return (1 / self.bands) ** (1 / self.rows) if self.threshold is None else self.threshold


def found_by_bands(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that two documents of a similarity agree in a band: 1 - (1 - s^rows)^bands."""
    return float(1 - (1 - similarity**rows) ** bands)


def sign(texts: Iterable[str], settings: MinHash) -> Iterator[np.ndarray]:
    """Yield signatures of texts, in order, batch by batch: uint32 [texts, numbers].

    Each depends on its text alone. A text of fewer words than an n-gram has one n-gram, all its words. One
    without words has the largest number everywhere; `is_empty` tells it.
    """
    from rensa import RMinHash

    for batch in _batches(texts):
        if len(batch[0]) <= _CHARACTERS_AT_ONCE:
            ngrams = [_ngrams(words(text), settings.ngram) for text in batch]
            rows = RMinHash.digest_matrix_from_token_sets(ngrams, settings.numbers, _SEED).to_rows()
        else:
            rows = [_long_signature(batch[0], settings)]
        yield np.array(rows, dtype=np.uint32)


def _ngrams(found: list[str], n: int) -> list[str]:
    """Return the n-grams of words; all words together if there are fewer than n."""
    if len(found) < n:
        return [" ".join(found)] if found else []
    return list(map(" ".join, zip(*(found[at:] for at in range(n)), strict=False)))


def _long_signature(text: str, settings: MinHash) -> list[int]:
    """Return the signature of a long text, block by block: its n-grams take a hundred times its memory."""
    from rensa import RMinHash

    sketch, before = RMinHash(settings.numbers, _SEED), settings.ngram - 1
    last: list[str] = []
    updated = False
    for block in blocks(text):
        found = [*last, *words(block)]
        if len(found) > before:
            sketch.update(_ngrams(found, settings.ngram))
            updated = True
        last = found[max(0, len(found) - before) :]
    if last and not updated:
        sketch.update(_ngrams(last, settings.ngram))
    numbers: list[int] = sketch.digest()
    return numbers


def is_empty(signatures: np.ndarray) -> np.ndarray:
    """Return True for signatures of texts without words: bool [texts]."""
    return np.asarray((signatures == np.iinfo(np.uint32).max).all(axis=1))


def band_keys(signatures: np.ndarray, band: int, rows: int) -> np.ndarray:
    """Hash one band of signatures, equal for equal bands: uint64 [texts]."""
    keys = np.zeros(len(signatures), dtype=np.uint64)
    for number in range(band * rows, (band + 1) * rows):
        keys = (keys ^ signatures[:, number]) * _FACTOR
        keys ^= keys >> np.uint64(32)
    return keys


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in batches, small enough for a processor's cache; a long text by itself."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
        if len(batch) == _DOCUMENTS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
