"""The words that no token of a SentencePiece BPE crosses.

Byte-level tokenizers cut text into words before they merge. Those that come from SentencePiece often do not;
their training did: no token has "▁" behind a letter, and in most, none joins digits, or letters and
punctuation. Where no merge joins two kinds of characters, text can be cut without any change to its tokens,
and new tokens that stay within such words keep to the old ones' habits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from itertools import pairwise

from tokenizer_tools.spelling import WORD_START

MARK, LETTER, DIGIT, OTHER = "mark", "letter", "digit", "other"
Junction = tuple[str, str]

_CLASSES = {
    MARK: WORD_START,
    LETTER: r"[\p{L}\p{M}]",
    DIGIT: r"\p{Nd}",
    OTHER: rf"[^{WORD_START}\p{{L}}\p{{M}}\p{{Nd}}]",
}


def joined_kinds(merges: Iterable[tuple[str, str]], *, fuses_unknown: bool) -> frozenset[Junction]:
    """Kinds of characters that may be side by side in a token.

    Args:
        merges: the tokenizer's, each a left and a right part.
        fuses_unknown: whether adjacent unknown characters, which may be any but "▁", become one token.
    """
    joined = {junction for left, right in merges for junction in pairwise(map(_kind, left + right))}
    if fuses_unknown:
        kinds = (LETTER, DIGIT, OTHER)
        joined |= {(left, right) for left in kinds for right in kinds}
    return frozenset(joined)


def word_pattern(joined: Collection[Junction]) -> str:
    """Regular expression of a word: characters whose neighbours are of joined kinds, as many as follow."""
    runs = {
        kind: f"(?>{of_kind}+)" if (kind, kind) in joined else of_kind for kind, of_kind in _CLASSES.items()
    }
    changes = {junction for junction in joined if junction[0] != junction[1]}
    going_on = [
        f"{run}(?={following})" for kind, run in runs.items() if (following := continuation(kind, changes))
    ]
    return f"(?:{'|'.join(going_on)})*(?:{'|'.join(runs.values())})"


def continuation(kind: str, joined: Collection[Junction]) -> str:
    """Regular expression of a character that goes on with a word that ends in this kind; "" if none does."""
    return "|".join(_CLASSES[other] for other in _CLASSES if (kind, other) in joined)


def _kind(character: str) -> str:
    if character == WORD_START:
        return MARK
    category = unicodedata.category(character)
    if category[0] in "LM":
        return LETTER
    return DIGIT if category == "Nd" else OTHER
