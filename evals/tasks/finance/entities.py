"""Named entities, written one a line as `name, type`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TYPES = ("PER", "ORG", "LOC")

Span = tuple[int, int, str]
"""First word, the word after the last, type."""


def entity_counts(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Entities that are found and right, found, and right: right in all their words and in type."""
    found, right = predicted_spans(results[0], doc["text"].split()), tagged_spans(doc["label"])
    return {"entity_f1": (len(found & right), len(found), len(right))}


def tagged_spans(tags: Sequence[str]) -> set[Span]:
    """The entities of BIO tags; an I- that continues no entity of its type begins one (CoNLL)."""
    spans: set[Span] = set()
    begin, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, named = tag.partition("-")
        if kind and (mark != "I" or named != kind):
            spans.add((begin, place, kind))
            kind = ""
        if mark != "O" and not kind:
            begin, kind = place, named
    return spans


def predicted_spans(answer: str, words: Sequence[str]) -> set[Span]:
    """The places in a text of the entities of an answer: everywhere where the words of a name stand.

    As in FLARE a word has one tag, the later line's; lines that are not a name and a type say nothing.
    """
    tags = ["O"] * len(words)
    for name, kind in answer_entities(answer):
        for begin in _occurrences(name.split(), words):
            length = len(name.split())
            tags[begin : begin + length] = [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    return tagged_spans(tags)


def answer_entities(answer: str) -> list[tuple[str, str]]:
    """Names and types of the lines of an answer."""
    lines = (line.rpartition(",") for line in answer.strip().split("\n"))
    pairs = [(name.strip(), kind.strip()) for name, _, kind in lines]
    return [(name, kind) for name, kind in pairs if name and kind in TYPES]


def _occurrences(name: Sequence[str], words: Sequence[str]) -> list[int]:
    last = len(words) - len(name)
    return [place for place in range(last + 1) if list(words[place : place + len(name)]) == list(name)]
