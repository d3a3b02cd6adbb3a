"""Divide texts where lines or sentences end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, takewhile

from cpt.corpus.study.sentences import sentences


def opening(text: str, size: int) -> str:
    """Return the first sentences of a text, at most `size` characters; empty if the first one is longer."""
    if len(text) <= size:
        return text
    ends = [end for _, end in takewhile(lambda span: span[1] <= size, sentences(text))]
    return text[: ends[-1]] if ends else ""


def passages(text: str, most: int) -> Iterator[tuple[int, int]]:
    """Divide a text into passages of at most so many characters, at ends of lines or else of sentences.

    A sentence that is longer is a passage of its own.
    """
    begin = end = 0
    for _, stop in _units(text, most):
        if end > begin and stop - begin > most:
            yield begin, end
            begin = end
        end = stop
    if text[begin:end].strip():
        yield begin, end


def _units(text: str, most: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of a text, those that are too long in sentences, so that they cover all of it."""
    at = 0
    for line in text.splitlines(keepends=True):
        stop = at + len(line)
        if len(line) <= most:
            yield at, stop
        else:
            ends = [at + end for _, end in sentences(line)]
            borders = [at, *ends[:-1], stop]
            yield from pairwise(borders)
        at = stop
