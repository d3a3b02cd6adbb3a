"""Token ids of texts of any length: a long text is encoded in windows, with the ids that it has in one piece.

An encoding takes about a hundred bytes a character. So a long text is cut into windows that overlap. Two
windows meet where both have the same tokens at the same places in the middle of their overlap, more than a
thousand characters from either end, at a place over which nothing reaches. That is a place between two
words of the pre-tokenizer; or, of a BPE, one between two characters that no token of the vocabulary holds
side by side, so that no merge can join them. Normalisers and pre-tokenizers look at a few characters around
a place, so what the end of a window changes is over by then. Where it is not (in a run of a thousand
digits, in an endless word), the windows differ or no place is free, and the window grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer, models

from cpt.errors import DataError

LONG = 1 << 19
"""Characters from which on a text is encoded in windows."""

_WINDOW, _OVERLAP, _MARGIN = 1 << 18, 1 << 13, 1 << 11
_LARGEST = 1 << 22
"""Characters of the largest window: about half a gigabyte."""

_BLOCK = 1 << 16
_SPACE = re.compile(r"\s")


def blocks(text: str) -> Iterator[str]:
    """Cut a text before white space: words stay whole, and so does what Unicode normalisation composes."""
    begin = 0
    while begin < len(text):
        space = _SPACE.search(text, begin + _BLOCK)
        end = space.start() if space else len(text)
        yield text[begin:end]
        begin = end


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the ids of each text, uint32 (tokens,), without special tokens.

    Raises:
        DataError: A long text has no place at which it can be cut.
    """
    short = [text for text in texts if len(text) < LONG]
    encodings = iter(tokenizer.encode_batch_fast(short, add_special_tokens=False))
    for text in texts:
        if len(text) < LONG:
            yield np.asarray(next(encodings).ids, dtype=np.uint32)
        else:
            yield np.concatenate(list(_windows(tokenizer, text)))


def tokens_with_spans(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of a text, uint32 (tokens,), and where each begins and ends in it, int64 (tokens, 2).

    Raises:
        DataError: The text is too long to be encoded in one piece.
    """
    if len(text) > _LARGEST:
        raise DataError(
            f"it has {len(text):,} characters; a text with loss weights may have {_LARGEST:,}",
            hint="Divide the conversation, or give its source prompt_weight: 1.",
        )
    tokens = _Tokens(tokenizer, text, 0, len(text))
    return tokens.ids.astype(np.uint32), tokens.spans


def _windows(tokenizer: Tokenizer, text: str) -> Iterator[np.ndarray]:
    """Yield the ids of a long text, window by window."""
    free = _Places(tokenizer)
    begin, used = 0, np.zeros(0, dtype=np.uint32)
    end = begin + _WINDOW
    while end + _OVERLAP < len(text):
        joint = _Joint.at(tokenizer, text, end, free)
        ids = None if joint is None else _ids(tokenizer, text[begin : end + _OVERLAP])
        if joint is None or ids is None or not joint.fits(ids, used):
            end += (end - begin) // 4
            if end - begin > _LARGEST:
                raise _uncut(text, begin)
            continue
        yield ids[len(used) : len(ids) - joint.after]
        begin, used = end, joint.used
        end = begin + _WINDOW
    ids = _ids(tokenizer, text[begin:])
    if not np.array_equal(ids[: len(used)], used):
        raise _uncut(text, begin)
    yield ids[len(used) :]


def _ids(tokenizer: Tokenizer, text: str) -> np.ndarray:
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return np.asarray(encoding.ids, dtype=np.uint32)


def _uncut(text: str, begin: int) -> DataError:
    return DataError(
        f"more than {_LARGEST:,} characters in a row have no place at which they can be cut for the "
        f"tokenizer: {text[begin : begin + 40]!r}...",
        hint="Take this stretch out, or give it spaces or line breaks. If it has some, the tokenizer does "
        "not divide text into words: divide the document.",
    )


@dataclass(frozen=True)
class _Joint:
    """Join the tokens of a window with those of the next, which begins at a known place.

    Attributes:
        tail: the window's last ids, from the middle of the overlap on; `after` of them come after the cut.
        used: the next window's ids before the cut.
    """

    tail: np.ndarray
    after: int
    used: np.ndarray

    @classmethod
    def at(cls, tokenizer: Tokenizer, text: str, place: int, free: _Places) -> _Joint | None:
        """Find a joint of the windows that end after and begin at a place of the text."""
        one = _Tokens(tokenizer, text, place - _OVERLAP, place + _OVERLAP)
        other = _Tokens(tokenizer, text, place, place + 2 * _OVERLAP)
        zone = place + _MARGIN, place + _OVERLAP - _MARGIN
        mine, its = one.within(*zone), other.within(*zone)
        count = mine.stop - mine.start
        same = (
            count > 1
            and np.array_equal(one.ids[mine], other.ids[its])
            and np.array_equal(one.spans[mine], other.spans[its])
            and np.array_equal(np.diff(one.words[mine]), np.diff(other.words[its]))
        )
        if not same:
            return None
        for at in sorted(range(1, count), key=lambda place: abs(place - count // 2)):
            if free.between(one, mine.start + at):
                after = len(one.ids) - mine.start - at
                return cls(one.ids[mine.start :], after, other.ids[: its.start + at])
        return None

    def fits(self, ids: np.ndarray, used: np.ndarray) -> bool:
        """Return True if a window's ids end as the joint has it, and begin as the joint before has it."""
        return np.array_equal(ids[-len(self.tail) :], self.tail) and np.array_equal(ids[: len(used)], used)


class _Tokens:
    """The tokens of a part of a text.

    Attributes:
        ids: [T] uint32. spans: [T, 2] places of each token in the text. words: [T] number of its word.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, begin: int, end: int) -> None:
        encoding: Encoding = tokenizer.encode(text[begin:end], add_special_tokens=False)
        self.ids = np.asarray(encoding.ids, dtype=np.uint32)
        self.spans = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2) + begin
        words = (-1 if word is None else word for word in encoding.word_ids)
        self.words = np.fromiter(words, np.int64, len(self.ids))

    def within(self, begin: int, end: int) -> slice:
        """Return the tokens that lie within two places of the text."""
        begins = np.minimum.accumulate(self.spans[::-1, 0])[::-1]
        ends = np.maximum.accumulate(self.spans[:, 1])
        first, last = np.searchsorted(begins, begin), np.searchsorted(ends, end, side="right")
        return slice(int(first), int(max(first, last)))


class _Places:
    """Places between two tokens that nothing reaches over."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pairs: set[str] | None = None

    def between(self, tokens: _Tokens, at: int) -> bool:
        """Return True if nothing reaches over the place before token `at`."""
        if tokens.words[at - 1] != tokens.words[at]:
            return True
        model = self._tokenizer.model
        if not isinstance(model, models.BPE) or model.continuing_subword_prefix or model.end_of_word_suffix:
            return False
        before, after = (self._tokenizer.id_to_token(int(token)) for token in tokens.ids[at - 1 : at + 1])
        if not before or not after or model.unk_token in (before, after):
            return False  # the characters of an unknown token are not known, and neighbours may be fused
        if self._pairs is None:
            vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
            self._pairs = {token[i : i + 2] for token in vocabulary for i in range(len(token) - 1)}
        return before[-1] + after[0] not in self._pairs
