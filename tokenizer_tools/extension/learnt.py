"""What learning from a corpus makes of a tokenizer: the same for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NewToken:
    """A token that was added.

    Attributes:
        token: as the vocabulary spells it.
        token_id: ids of new tokens are consecutive, after every id that was used.
        count: how often the corpus held it when it was learnt.
    """

    token: str
    token_id: int
    count: int


def numbered(counts: Mapping[str, int], first: int) -> list[NewToken]:
    """New tokens with ids from `first` on, in the order of the counts."""
    return [NewToken(token, first + place, counts[token]) for place, token in enumerate(counts)]


@dataclass(frozen=True)
class LearnedVocabulary:
    """An extended tokenizer, not yet written.

    Attributes:
        data: content of the new tokenizer.json.
        tokens: the new tokens, in the order of their ids.
        extra: merges that were appended; 0 for kinds that have none.
    """

    data: Mapping[str, Any]
    tokens: Sequence[NewToken]
    extra: int = 0
