"""Segment texts, find where their tokens end, and where two segmentations of a text meet.

Two segmentations meet after a token of one and a token of the other if both have then read the same bytes of
the text. Positions inside a merged token have no counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenizer_tools.vocabulary import Vocabulary

_NOWHERE = -1


@dataclass(frozen=True)
class Segmentation:
    """The tokens of a text.

    Attributes:
        ids: [T] token ids.
        ends: [T] bytes of the text read after each token; -1 if unknown, or if the next token reads none.
    """

    ids: np.ndarray
    ends: np.ndarray


def segment(vocabulary: Vocabulary, text: str) -> Segmentation:
    """Segment a text, and find where its tokens end.

    If the tokens' surfaces spell the text, with or without a space before it, their lengths give the ends,
    within characters too. Otherwise (text that the tokenizer normalises, unknown characters) the tokenizer's
    character offsets give them: of tokens that end with the same character, the last is known to end after
    it, and after text that the tokenizer drops there or joins to it.
    """
    encoding = vocabulary.tokenizer.encode(text, add_special_tokens=False)
    surfaces = [vocabulary.surfaces[token_id] for token_id in encoding.ids]
    spelt, data = b"".join(surface or b"" for surface in surfaces), text.encode()
    if None not in surfaces and spelt in (data, b" " + data):
        lengths = np.array([len(surface or b"") for surface in surfaces], dtype=np.int64)
        ends = np.cumsum(lengths) - (len(spelt) - len(data))
        ends[:-1][ends[:-1] == ends[1:]] = _NOWHERE
    else:
        ends = _ends_by_offsets(text, encoding.offsets)
    return Segmentation(np.array(encoding.ids, dtype=np.int64), ends)


def _ends_by_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the bytes [T] read after each token, by the characters [start, end) of its text."""
    bytes_before, ends = _byte_positions(text), []
    for (_, end), (start, next_end) in zip(offsets, [*offsets[1:], (len(text), _NOWHERE)], strict=False):
        after = end
        while after < start and not text[after].isspace():
            after += 1
        ends.append(_NOWHERE if end == next_end else bytes_before[after])
    return np.array(ends, dtype=np.int64)


def meeting_points(old: Segmentation, new: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions [A], [A] in two segmentations after which both have read the same bytes."""
    ends, at_old, at_new = np.intersect1d(old.ends, new.ends, return_indices=True)
    return at_old[ends > 0], at_new[ends > 0]


def _byte_positions(text: str) -> np.ndarray:
    """Return the number of UTF-8 bytes before each character: [characters + 1]."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    lengths = np.digitize(codes, [0x80, 0x800, 0x10000]) + 1
    return np.concatenate([[0], np.cumsum(lengths)])
