"""Cut a text's tokens into words, within which tokens may be merged.

A word is one pre-token. Where a tokenizer cuts no words (SentencePiece BPE without a pre-tokenizer), words
begin at white space. Tokens that stand for no bytes, such as special ones, are words of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from tokenizers import Encoding, Tokenizer

Word = tuple[int, ...]
"""Ids of adjacent tokens that may be merged."""

_SPACES = b" \t\n\r\x0b\x0c"


class WordBoundaries:
    """The word boundaries of a tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer, surfaces: Sequence[bytes | None]) -> None:
        """Prepare the boundaries.

        Args:
            tokenizer: Tokenizer that made the tokens.
            surfaces: Bytes of text by id, as in `Vocabulary.surfaces`.
        """
        self._is_plain = np.array([bool(surface) for surface in surfaces])
        self._begins_space = np.array([(surface or b"x")[0] in _SPACES for surface in surfaces])
        self._ends_space = np.array([(surface or b"x")[-1] in _SPACES for surface in surfaces])
        self._ends_line = np.array([(surface or b"x")[-1] in b"\n\r" for surface in surfaces])
        words = tokenizer.encode("a a a", add_special_tokens=False).word_ids
        self._cuts_words = len(set(words)) > 1

    def starts(self, encoding: Encoding) -> np.ndarray:
        """Return True [tokens] where a token begins a word."""
        starts = np.ones(len(encoding), dtype=bool)
        if len(encoding) < 2:
            return starts
        ids = np.asarray(encoding.ids)
        words = np.array([-1 if word is None else word for word in encoding.word_ids])
        left, right = ids[:-1], ids[1:]
        starts[1:] = (words[1:] != words[:-1]) | ~self._is_plain[left] | ~self._is_plain[right]
        if not self._cuts_words:
            starts[1:] |= ~self._ends_space[left] & self._begins_space[right]
            starts[1:] |= self._ends_line[left] & ~self._begins_space[right]
        return starts


def words_of(ids: np.ndarray, starts: np.ndarray) -> list[Word]:
    """Cut tokens into words.

    Args:
        ids: [tokens] Ids.
        starts: [tokens] True where a token begins a word; the first always does.
    """
    edges = [0, *(np.flatnonzero(starts[1:]) + 1).tolist(), len(ids)] if len(ids) else [0]
    plain = ids.tolist()
    return [tuple(plain[begin:end]) for begin, end in pairwise(edges)]


def ids_of(words: Sequence[Word]) -> list[int]:
    """Return the ids of all words in their order."""
    return [token for word in words for token in word]
