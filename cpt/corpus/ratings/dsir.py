"""Weigh documents by importance: how much likelier target text makes their words than the documents do.

DSIR (Xie et al. 2023, arXiv 2302.03169, section 3): both distributions are bags of hashed words and word
pairs, log w = Σ count · (log p_target - log p_raw), and documents are resampled without replacement with
these weights, by the Gumbel top-k trick: the k largest log w + g, g ~ Gumbel(0, 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from cpt.corpus.extras import ExtraSettings
from cpt.corpus.ratings.words import vectorizer

_FLOOR = 1e-8
"""Probability added to every bucket, so that no logarithm is of zero; as in the authors' code."""


class DSIRSettings(ExtraSettings):
    """Settings of importance weights."""

    kind: Literal["dsir"] = "dsir"
    ngrams: int = Field(
        default=2, ge=1, le=5, description="Words of the longest n-grams; 2 counts words and pairs."
    )
    buckets: int = Field(default=10_000, ge=2, description="Number of buckets that n-grams are hashed into.")
    sampled: bool | None = Field(
        default=None,
        description="Resample with the weights (Gumbel top-k, seeded); false: the highest weights, as always "
        "with per_ngram.",
    )
    per_ngram: bool = Field(
        default=False,
        description="Divide a document's log weight by its number of n-grams. A sum, as in the paper, "
        "ranks by length too: among documents alike in kind, long ones have the most extreme weights.",
    )

    @model_validator(mode="after")
    def _noise_of_the_size_of_weights(self) -> DSIRSettings:
        if self.per_ngram and self.sampled:
            # Of 1,800 pieces of text the weights per n-gram scatter by 0.08 to 0.20, the noise by 1.28.
            raise ValueError(
                "sampled makes the choice random with per_ngram: its noise is ten times the weights"
            )
        return self

    @property
    def adds_noise(self) -> bool:
        """Return True if documents are drawn with their weights."""
        return not self.per_ngram and self.sampled is not False


class HashedNGrams:
    """The distributions of hashed n-grams in target text and in the documents, and log weights by them."""

    def __init__(self, settings: DSIRSettings) -> None:
        self._settings = settings
        self._vectorizer = vectorizer(settings.ngrams, settings.buckets, unit_length=False)

    def total(self, texts: Iterable[str], at_once: int = 256) -> np.ndarray:
        """Count the n-grams of all texts by bucket: float64 (buckets,)."""
        result = np.zeros(self._settings.buckets)
        iterator = iter(texts)
        while batch := list(islice(iterator, at_once)):
            result += np.asarray(self._vectorizer.transform(batch).sum(axis=0)).ravel()
        return result

    def weigher(self, target: np.ndarray, raw: np.ndarray) -> Callable[[Sequence[str]], np.ndarray]:
        """Return a function from texts to log weights, float64 (texts,).

        Args:
            target, raw: Counts by bucket, (buckets,), of target text and of all documents.
        """
        ratio = log_ratio(target, raw)

        def weigh(texts: Sequence[str]) -> np.ndarray:
            counted = self._vectorizer.transform(texts)
            sums = np.asarray(counted @ ratio)
            if not self._settings.per_ngram:
                return sums
            return sums / np.maximum(np.asarray(counted.sum(axis=1)).ravel(), 1)

        return weigh


def log_ratio(target: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return log p_target - log p_raw of each bucket, (buckets,), from counts."""
    shares = [counts / max(counts.sum(), 1) + _FLOOR for counts in (target, raw)]
    return np.asarray(np.log(shares[0]) - np.log(shares[1]))


def gumbel(digests: Sequence[bytes], seed: int) -> np.ndarray:
    """Return standard Gumbel noise, float64 (documents,), by a hash of (seed, digest).

    A document's noise does not depend on the other documents.
    """
    salt = seed.to_bytes(16, "little", signed=True)
    hashed = (hashlib.blake2b(key, digest_size=8, salt=salt, person=b"gumbel").digest() for key in digests)
    numbers = (float(int.from_bytes(each, "little")) for each in hashed)
    uniform = (np.fromiter(numbers, np.float64, len(digests)) + 0.5) / 2**64
    uniform = np.minimum(uniform, np.nextafter(1.0, 0.0))
    return -np.log(-np.log(uniform))
