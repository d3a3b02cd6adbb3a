"""Compute MinHash signatures of documents: near-duplicates agree in most of their numbers.

A document is the set of its word n-grams, without case and punctuation. Two signatures agree in each number
with the probability of the sets' Jaccard similarity s (Broder 1997). Documents whose signatures agree in a
whole band of r numbers are candidates: 1 - (1 - s^r)^b of the pairs, with b bands (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4; 14 bands of 8 rows as in FineWeb, arXiv 2406.17557).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from evals.overlap import hashes, word_numbers

_SEED = 1
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_CHARACTERS_AT_ONCE = 4 << 20
_DOCUMENTS_AT_ONCE = 4096
_CACHED_WORDS = 1 << 20


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

    def problem(self) -> str | None:
        """Return what is missing to compute signatures, with the remedy; None if nothing is."""
        if importlib.util.find_spec("rensa") is None:
            return "minhash needs rensa: pip install 'cpt-workbench[deduplicate]'"
        return None


def found_by_bands(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that two documents of a similarity agree in a band: 1 - (1 - s^rows)^bands."""
    return float(1 - (1 - similarity**rows) ** bands)


class Signer:
    """A function from texts to signatures. Each depends on its text alone."""

    def __init__(self, settings: MinHash) -> None:
        self._settings = settings
        self._numbers = _Numbers()

    def sign(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield signatures of texts, in order, batch by batch: uint32 [texts, numbers].

        A text of fewer words than an n-gram has one n-gram, all its words. One without words has the largest
        number everywhere; `is_empty` tells it.
        """
        from rensa import RMinHash

        for batch in _batches(texts):
            ngrams, counts = self._ngrams(batch)
            offsets = np.cumsum([0, *counts]).astype(np.uint64)
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(
                ngrams, offsets, self._settings.numbers, _SEED
            )
            flat = chain.from_iterable(matrix.to_rows())
            size = len(batch) * self._settings.numbers
            yield np.fromiter(flat, np.uint32, size).reshape(len(batch), -1)

    def _ngrams(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the hashes of the n-grams of all texts, end to end, and their number in each."""
        numbers = [word_numbers(text, self._numbers.__getitem__) for text in texts]
        self._numbers.shrink()
        lengths = np.array([len(each) for each in numbers])
        n, between = self._settings.ngram, np.zeros(1, dtype=np.uint64)
        joined = hashes(np.concatenate([part for each in numbers for part in (each, between)]), n)
        ngrams = joined[joined != 0]  # an n-gram over two texts has a word of number 0
        counts = np.maximum(lengths - n + 1, 0)
        short = np.flatnonzero((lengths > 0) & (lengths < n))
        whole = [hashes(numbers[place], lengths[place])[0] for place in short]
        ngrams = np.insert(ngrams, (np.cumsum(counts) - counts)[short], np.array(whole, dtype=np.uint64))
        counts[short] = 1
        return ngrams, counts


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


class _Numbers(dict[str, int]):
    """A number of 64 bits for each word, by its hash: the same in every process."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "little") or 1
        return number

    def shrink(self) -> None:
        """Forget all words if there are many, so that memory stays bounded."""
        if len(self) > _CACHED_WORDS:
            self.clear()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _CHARACTERS_AT_ONCE or len(batch) == _DOCUMENTS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
