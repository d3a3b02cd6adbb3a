"""Beginnings of documents that several models score byte by byte, with the same text before every byte."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.bits_per_byte import Scores
from evals.exact_bytes.model import ByteModel, mixed
from evals.exact_bytes.scoring import ByteScores, Steps, Unspelt
from tokenizer_tools.canonical.tokens import CanonicalTokens

MARGIN = 16
"""Tokens by which a sequence that covers a text may be longer than its own."""


@dataclass(frozen=True)
class Excerpts:
    """Beginnings of documents.

    Attributes:
        ids: Origin of each document.
        texts: Beginning of each; where the document goes on, it ends before white space if there is some.
        left_out: Number of documents that some tokenizer cannot spell, by reason.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def bytes(self) -> np.ndarray:
        """Return the number of bytes of each beginning: [excerpts]."""
        return np.array([len(text.encode()) for text in self.texts], dtype=np.int64)


@dataclass(frozen=True)
class ExcerptScores:
    """Scores of excerpts under a model.

    Attributes:
        each: Scores of each excerpt.
        bytes: [excerpts] Number of bytes.
        seconds: Time that scoring took.
    """

    each: Sequence[ByteScores]
    bytes: np.ndarray
    seconds: float

    @property
    def exact(self) -> Scores:
        """Return -ln P of each excerpt as the beginning of a text."""
        return Scores(np.array([-each.bytes.sum() for each in self.each]), self.bytes)

    @property
    def by_tokens(self) -> Scores:
        """Return -ln p of the excerpts' own tokens."""
        return Scores(np.array([-each.tokens for each in self.each]), self.bytes)

    @property
    def left_out(self) -> float:
        """Return the bits per byte that the model spends on tokens that no text has there."""
        return -sum(each.left_out for each in self.each) / float(self.bytes.sum()) / math.log(2)


def take_excerpts(
    documents: Iterable[Document], tokenizers: Sequence[CanonicalTokens], windows: Sequence[int], most: int
) -> Excerpts:
    """Take the beginnings of the first documents.

    Args:
        documents: Documents in their order.
        tokenizers: Tokenizers of the models.
        windows: Most tokens that each model reads at once, with one before the text.
        most: Most bytes in all.

    Raises:
        DataError: There is nothing to score.
    """
    rooms = [window - 1 - MARGIN for window in windows]
    if min(rooms) < 1:
        raise DataError(
            f"windows of {min(windows)} tokens have no room for bytes",
            hint=f"Choose a window of more than {1 + MARGIN} tokens.",
        )
    ids: list[str] = []
    texts: list[str] = []
    left_out: Counter[str] = Counter()
    for document in documents:
        fitting = document.text.encode()[:most].decode(errors="ignore")
        text = _beginning(document.text, len(fitting), tokenizers, rooms)
        try:
            for tokens in dict.fromkeys(tokenizers):
                Steps(tokens, text)
        except Unspelt as error:
            left_out[error.reason] += 1
            continue
        if text:
            ids.append(document.id)
            texts.append(text)
            most -= len(text.encode())
        if most <= 0 or fitting != document.text:
            break
    if not texts:
        raise DataError("there is no text that can be scored byte by byte", hint=", ".join(left_out) or None)
    return Excerpts(tuple(ids), tuple(texts), left_out)


def score_excerpts(
    model: ByteModel, excerpts: Excerpts, on_progress: Callable[[int], None] | None = None
) -> ExcerptScores:
    """Score excerpts under a model.

    Args:
        model: Model.
        excerpts: Beginnings of documents.
        on_progress: Function of the number of bytes, called after each excerpt.
    """
    begun = time.perf_counter()
    found = []
    for text in excerpts.texts:
        found.append(model.score(text))
        if on_progress is not None:
            on_progress(len(text.encode()))
    return ExcerptScores(found, excerpts.bytes, time.perf_counter() - begun)


def score_ensemble(scores: Sequence[ExcerptScores]) -> Scores:
    """Compute -ln P of each excerpt under the mean of several models' distributions of bytes.

    Raises:
        DataError: The tokenizers change an excerpt in different ways, so that its bytes are not the same.
    """
    weights = np.full(len(scores), 1 / len(scores))
    nats = []
    for each in zip(*(of_model.each for of_model in scores), strict=True):
        if len({len(of_model.bytes) for of_model in each}) > 1:
            raise DataError(
                "the models' tokenizers put a text into different forms, so that their bytes differ",
                hint="Leave --ensemble out, or put the text into Unicode's normal form C.",
            )
        nats.append(-float(mixed(np.stack([of_model.bytes for of_model in each]), weights).sum()))
    return Scores(np.array(nats), scores[0].bytes)


def _beginning(text: str, end: int, tokenizers: Sequence[CanonicalTokens], rooms: Sequence[int]) -> str:
    """Return a beginning of at most `end` characters that all models can read."""
    while True:
        if end < len(text):
            end = next((place for place in range(end, 0, -1) if text[place].isspace()), end)
        fits = [_fits(text[:end], tokens, room) for tokens, room in zip(tokenizers, rooms, strict=True)]
        if min(fits) >= end:
            return text[:end]
        end = min(*fits, end - 1)


def _fits(text: str, tokens: CanonicalTokens, room: int) -> int:
    """Return the number of characters in the first tokens of a text."""
    encoding = tokens.bpe.tokenizer.encode(text, add_special_tokens=False)
    return len(text) if len(encoding) <= room else int(encoding.offsets[room - 1][1])
