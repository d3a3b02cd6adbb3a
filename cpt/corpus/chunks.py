"""Cut long texts into chunks at the ends of paragraphs, lines, sentences or words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from cpt.corpus.documents import Document, Item

_ENDS = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"[.!?][\"')\]]*\s+|[\u3002\uff01\uff1f]", r"\s+")))
"""Ends of paragraphs, lines, sentences and words: the first kind that a stretch of text has is taken."""


def in_chunks(items: Iterator[Item], longest: int) -> Iterator[Item]:
    """Yield items with documents of more than `longest` characters as chunks, with their number in the id.

    Only the last chunk is followed by an end token, or the model would learn to stop in the middle of a text.
    """
    for item in items:
        if not isinstance(item, Document) or len(item.text) <= longest:
            yield item
            continue
        cut = list(chunks(item.text, longest))
        for number, text in enumerate(cut, start=1):
            ended = item.ended and number == len(cut)
            yield replace(item, id=f"{item.id}#{number}", text=text, ended=ended)


def chunks(text: str, longest: int) -> Iterator[str]:
    """Yield the chunks of a text, which joined are the text. They have about the same length.

    Args:
        longest: Most characters of a chunk.
    """
    at = 0
    while (left := len(text) - at) > longest:
        size = math.ceil(left / math.ceil(left / longest))
        end = _end(text, at + size // 2, at + size)
        yield text[at:end]
        at = end
    yield text[at:]


def _end(text: str, first: int, last: int) -> int:
    """Return the best place to cut in a stretch of text; its end if nothing ends there."""
    for ends in _ENDS:
        places = [found.end() for found in ends.finditer(text, first, last)]
        if places:
            return places[-1]
    return last
