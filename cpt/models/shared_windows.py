"""Windows that hold the same bytes of a text for several tokenizers.

A model reads better the more text comes before what it predicts. Windows of as many *tokens* hold more text
for a coarser tokenizer, so bits per byte would favour it. Here every window is a stretch of text, the longest
that fits all models, and begins and ends where all segmentations meet: after a token of each that ends a
character. So each scored byte has the same text before it under every model, and all score the same bytes.

Where segmentations do not meet within a window, each model is cut at its last token before the same byte: the
windows then differ by less than a token, no byte is lost, and these bytes are counted as unaligned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from cpt.errors import DataError
from cpt.models.bits_per_byte import (
    TokenisedText,
    Windows,
    byte_offsets,
    spanned_bytes,
    start_id,
    whole_character,
    whole_spans,
)


@dataclass(frozen=True)
class Reader:
    """A tokenizer with the windows of its model."""

    tokenizer: Tokenizer
    windows: Windows

    @classmethod
    def of(cls, tokenizer: Tokenizer, window: int, start_token: str | None, overlap: int = 0) -> Reader:
        """Make a reader.

        Args:
            window: most tokens at once, the start token included.
            start_token: token that precedes every document and every later window (see `Windows`).
            overlap: most tokens of earlier text that a later window repeats.
        """
        return cls(tokenizer, Windows(window, start_id(tokenizer, start_token), overlap))


@dataclass(frozen=True)
class WindowBytes:
    """Sizes of windows in bytes, the same for all models.

    Attributes:
        windows: number of windows.
        held: bytes in all of them, context included.
        scored: bytes in which something is predicted.
        before: sum over these of the bytes before each in its window.
        least: fewest bytes before a scored byte in any window that does not begin its document; None without
            such a window.
        unaligned: scored bytes in windows that begin or end where the segmentations do not meet.
    """

    windows: int = 0
    held: int = 0
    scored: int = 0
    before: float = 0.0
    least: int | None = None
    unaligned: int = 0

    def __add__(self, other: WindowBytes) -> WindowBytes:
        least = [each.least for each in (self, other) if each.least is not None]
        return WindowBytes(
            self.windows + other.windows,
            self.held + other.held,
            self.scored + other.scored,
            self.before + other.before,
            min(least, default=None),
            self.unaligned + other.unaligned,
        )

    def as_json(self) -> dict[str, Any]:
        """Return means and the least, as results record them."""
        return {
            "bytes_per_window": self.held / self.windows if self.windows else None,
            "mean_context_bytes": self.before / self.scored if self.scored else None,
            "least_context_bytes": self.least,
            "unaligned_bytes": self.unaligned,
        }


@dataclass(frozen=True)
class Cut:
    """One window: for each tokenizer the tokens [context, begin) that it repeats and [begin, end) it scores.

    Attributes:
        context, begin, end: [tokenizers] numbers of tokens.
        places: the same three in characters of the text.
        aligned: whether begin and end are meeting points.
    """

    context: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    places: tuple[int, int, int]
    aligned: bool


@dataclass(frozen=True)
class SharedDocument:
    """One document in the windows of all models.

    Attributes:
        windows: for each model the windows' ids with their tokens of context.
        first: [models] number of tokens that are not scored because nothing precedes them.
        size: UTF-8 bytes that are scored; 0 if some model has nothing to score.
        bytes: how much text the windows hold.
    """

    windows: list[list[tuple[np.ndarray, int]]]
    first: np.ndarray
    size: int
    bytes: WindowBytes


@dataclass(frozen=True)
class SharedText:
    """Documents in the windows of all models.

    Attributes:
        texts: one for each reader; an item is the same document in each, with the same bytes.
        bytes: how much text the windows hold.
    """

    texts: list[TokenisedText]
    bytes: WindowBytes


def tokenise_shared(readers: Sequence[Reader], texts: Sequence[str]) -> SharedText:
    """Cut documents into the windows that all readers share.

    Documents of which some reader has nothing to score are passed over. For a single tokenizer the windows
    are those of `tokenise_text`.

    Raises:
        DataError: there is nothing to score.
    """
    documents = [document for document in shared_documents(readers, texts) if document.size]
    if not documents:
        raise DataError("there is no text to score")
    return joined(documents)


def shared_documents(readers: Sequence[Reader], texts: Sequence[str]) -> Iterator[SharedDocument]:
    """Cut each document into the windows that all readers share, also those with nothing to score."""
    for text, *encodings in zip(texts, *encoded(readers, texts), strict=True):
        yield cut_document(text, encodings, [reader.windows for reader in readers])


def encoded(readers: Sequence[Reader], texts: Sequence[str]) -> list[list[Encoding]]:
    """Encode texts with each reader's tokenizer, with offsets that `cut_document` needs."""
    known: dict[int, list[Encoding]] = {}
    for reader in readers:
        if id(reader.tokenizer) not in known:
            with whole_spans(reader.tokenizer):
                known[id(reader.tokenizer)] = reader.tokenizer.encode_batch(
                    list(texts), add_special_tokens=False
                )
    return [known[id(reader.tokenizer)] for reader in readers]


def joined(documents: Sequence[SharedDocument]) -> SharedText:
    """Join documents into one text for each reader."""
    sizes = np.asarray([document.size for document in documents], dtype=np.int64)
    texts = []
    for which in range(len(documents[0].windows)):
        cut = [
            (ids, context, owner)
            for owner, document in enumerate(documents)
            for ids, context in document.windows[which]
        ]
        texts.append(
            TokenisedText(
                [ids for ids, _, _ in cut],
                np.asarray([context for _, context, _ in cut], dtype=np.int64),
                np.asarray([owner for _, _, owner in cut], dtype=np.int64),
                sizes,
            )
        )
    return SharedText(texts, sum((document.bytes for document in documents), WindowBytes()))


def cut_document(text: str, encodings: Sequence[Encoding], windows: Sequence[Windows]) -> SharedDocument:
    """Cut one document into the windows that all models share.

    Args:
        encodings: of the text by each tokenizer, made within `whole_spans`.
        windows: of each model.
    """
    segmentations = _Segmentations.of(text, encodings)
    first = segmentations.first_scored(encodings, windows)
    begin = segmentations.rows[first]
    counts = np.asarray([len(encoding) for encoding in encodings])
    if (counts <= begin).any() or not (size := _scored_bytes(text, encodings, begin)):
        return SharedDocument([[] for _ in encodings], np.minimum(begin, counts), 0, WindowBytes())
    ids = [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]
    made: list[list[tuple[np.ndarray, int]]] = [[] for _ in encodings]
    at = byte_offsets(text)
    held = WindowBytes()
    for number, cut in enumerate(segmentations.cuts(first, windows)):
        for which, each in enumerate(windows):
            context, start, end = (int(part[which]) for part in (cut.context, cut.begin, cut.end))
            if start < end:
                lead = [] if each.start is None else [each.start]
                window = np.concatenate([lead, ids[which][context:end]]).astype(np.int64)
                made[which].append((window, len(lead) + start - context))
        held += _held(*(int(at[place]) for place in cut.places), later=number > 0, aligned=cut.aligned)
    return SharedDocument(made, begin, size, held)


class _Segmentations:
    """One text in the tokens of several tokenizers, and the points where they meet.

    Attributes:
        rows: [meetings, tokenizers] tokens of each before every meeting point, ascending; the first row is 0
            and the last is all tokens.
        places: [meetings] the points, in characters.
        aligned: [meetings] False for points that were added where the segmentations do not meet.
    """

    def __init__(self, rows: np.ndarray, places: np.ndarray, ends: Sequence[np.ndarray]) -> None:
        self.rows, self.places, self._ends = rows, places, ends
        self.aligned = np.ones(len(rows), dtype=bool)

    @classmethod
    def of(cls, text: str, encodings: Sequence[Encoding]) -> _Segmentations:
        """Find the meeting points; equal segmentations meet after every token, within characters too."""
        spans = [np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2) for encoding in encodings]
        ends = [np.maximum.accumulate(span[:, 1]) for span in spans]
        if all(_same(encodings[0], other) for other in encodings[1:]):
            rows = np.repeat(np.arange(len(encodings[0]) + 1)[:, None], len(encodings), axis=1)
            return cls(rows, np.concatenate([[0], ends[0]]), ends)
        # A point is between tokens if none reaches beyond it that begins before it.
        places = np.unique(np.concatenate([[0], *ends]))
        columns, between = [], np.ones(len(places), dtype=bool)
        for span, end in zip(spans, ends, strict=True):
            begins = np.minimum.accumulate(span[::-1, 0])[::-1]
            column = np.searchsorted(begins, places, side="left")
            before = np.concatenate([[0], end])[column]
            between &= before <= places
            columns.append(column)
        rows = np.stack(columns, axis=1)
        counts = np.asarray([len(encoding) for encoding in encodings])
        inside = between & (rows < counts).any(axis=1)
        inside[0] = True
        rows, places = rows[inside], places[inside]
        return cls(np.vstack([rows, counts]), np.append(places, len(text)), ends)

    def first_scored(self, encodings: Sequence[Encoding], windows: Sequence[Windows]) -> int:
        """Return the meeting point from which on all models score.

        A first token that nothing precedes is not predicted, nor is what spells the same character; where
        one model has no start token, none scores these bytes.
        """
        without = [which for which, each in enumerate(windows) if each.start is None]
        if not without:
            return 0
        needed = [min(whole_character(encodings[k], 1), len(encodings[k])) for k in without]
        return int(np.argmax((self.rows[:, without] >= needed).all(axis=1)))

    def cuts(self, first: int, windows: Sequence[Windows]) -> Iterator[Cut]:
        """Cut the text into windows, each the longest that fits all models, from a meeting point on."""
        room = np.asarray([each.room for each in windows])
        back = np.asarray([each.back for each in windows])
        least = np.asarray([each.least for each in windows])
        at = first
        while at < len(self.rows) - 1:
            begin, following = self.rows[at], self.rows[at + 1]
            latest = self._last(begin - least)
            wanted = 0 if at == first else min(self._first(begin - back), latest)
            context = max(wanted, self._first(following - room))  # less, if the next point fits only so
            aligned = context <= latest
            if aligned:
                tokens, place = self.rows[context], self.places[context]
                end = self._last(tokens + room)
            else:
                tokens, place, end = self.rows[wanted], self.places[wanted], at + 1
                if (begin - tokens > back).any():  # else there might be room for one token at a time
                    tokens, place = begin - least, self.places[at]
                if (tokens + room < following).any():
                    self._add(at, begin, tokens + room)
            yield Cut(
                tokens,
                begin,
                self.rows[end],
                (int(place), int(self.places[at]), int(self.places[end])),
                bool(aligned and self.aligned[at] and self.aligned[end]),
            )
            at = end

    def _first(self, tokens: np.ndarray) -> int:
        """Return the first point that has at least so many tokens of each before it."""
        return max(int(np.searchsorted(self.rows[:, which], count)) for which, count in enumerate(tokens))

    def _last(self, tokens: np.ndarray) -> int:
        """Return the last point that has at most so many tokens of each before it."""
        found = (np.searchsorted(self.rows[:, k], count, side="right") for k, count in enumerate(tokens))
        return min(int(each) for each in found) - 1

    def _add(self, at: int, begin: np.ndarray, most: np.ndarray) -> None:
        """Add a point after the one at `at`: the byte at which the first model is full, and each one's last
        token before it."""
        following = self.rows[at + 1]
        full = [which for which in range(len(most)) if most[which] < following[which]]
        place, fullest = min((int(self._ends[which][most[which] - 1]), which) for which in full)
        tokens = np.asarray([np.searchsorted(ends, place, side="right") for ends in self._ends])
        tokens = np.clip(tokens, begin, np.minimum(most, following))
        tokens[fullest] = most[fullest]
        self.rows = np.insert(self.rows, at + 1, tokens, axis=0)
        self.places = np.insert(self.places, at + 1, place)
        self.aligned = np.insert(self.aligned, at + 1, False)


def _same(one: Encoding, other: Encoding) -> bool:
    """Return True if two segmentations are equal."""
    return one is other or (
        len(one) == len(other) and one.offsets == other.offsets and one.tokens == other.tokens
    )


def _scored_bytes(text: str, encodings: Sequence[Encoding], first: np.ndarray) -> int:
    """Return the UTF-8 bytes of the characters that any tokenizer scores, each counted once."""
    if all(_same(encodings[0], other) for other in encodings[1:]):
        return spanned_bytes(text, encodings[0], int(first[0]), len(encodings[0]))
    changes = np.zeros(len(text) + 1, dtype=np.int64)
    for encoding, begin in zip(encodings, first, strict=True):
        spans = np.asarray(encoding.offsets[begin:], dtype=np.int64).reshape(-1, 2)
        np.add.at(changes, spans[:, 0], 1)
        np.add.at(changes, spans[:, 1], -1)
    return int(np.diff(byte_offsets(text))[changes[:-1].cumsum() > 0].sum())


def _held(context: int, begin: int, end: int, *, later: bool, aligned: bool) -> WindowBytes:
    """Return what one window holds, from byte positions.

    Args:
        later: whether it is not the first of its document.
    """
    scored, before = end - begin, begin - context
    return WindowBytes(
        windows=1,
        held=end - context,
        scored=scored,
        before=scored * before + scored * (scored - 1) / 2,
        least=before if later else None,
        unaligned=0 if aligned else scored,
    )
