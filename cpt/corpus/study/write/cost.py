"""Estimate requests, tokens and price of writing before anything is paid."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cpt.corpus.study.write.settings import WriteSettings

CHARACTERS = 4.0
"""Characters of a token: English prose with a large vocabulary."""

_FRAME = 220
"""Tokens of a prompt without its passage."""

_QUESTION, _STRATEGY, _PROGRAM = 32, 24, 48
_APPLIED = 0.6
"""Length of an applied strategy, relative to its passage."""

_AGAIN = 0.3
"""Share of questions that a round trip asks again: in the others the answer stands in the passage."""


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        read: Tokens of the prompts.
        written: Tokens of the answers.
    """

    passages: int
    requests: int
    read: int
    written: int

    def describe(self, settings: WriteSettings) -> str:
        """Return the estimate in words."""
        text = (
            f"about {self.requests:,} requests to {settings.label}: {self.read:,} tokens read, "
            f"{self.written:,} written"
        )
        if settings.price_per_million is None:
            return text
        read, written = settings.price_per_million
        return f"{text}, at your prices {(self.read * read + self.written * written) / 1e6:,.2f}"


def estimate(settings: WriteSettings, documents: float, characters: float) -> Cost:
    """Estimate the cost of writing about documents, up to the bound of tokens.

    Args:
        documents: Number of documents.
        characters: Characters of all of them.
    """
    if settings.documents is not None and settings.documents < documents:
        characters *= settings.documents / documents
        documents = settings.documents
    passages = max(ceil(characters / settings.passage), ceil(documents))
    length = characters / max(passages, 1) / CHARACTERS
    requests, read, written = 0.0, 0.0, 0.0
    for kind in settings.kinds:
        number, each = 1.0, length
        if kind == "questions":
            each = settings.questions * _QUESTION
            if settings.check == "round-trip":
                number += settings.questions * _AGAIN
        elif kind == "strategies":
            number += settings.strategies
            each = settings.strategies * (_STRATEGY + _APPLIED * length)
        elif kind == "refine":
            each = _PROGRAM
        requests += number
        read += number * (length + _FRAME)
        written += each
    passages = min(passages, ceil(settings.tokens / max(written, 1.0)))
    return Cost(passages, *(round(passages * each) for each in (requests, read, written)))
