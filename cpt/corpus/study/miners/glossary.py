"""Mine glossary lines: `term: definition`, asked in both directions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key

LINE = re.compile(
    r"^(?P<term>[^\W_][\w ,'\u2019()/+\-\u2013]{1,58}[\w)]): (?P<definition>\S.{14,398})$", re.MULTILINE
)
"""A line of a glossary. Longer definitions are paragraphs, shorter ones are names."""

_WORDS = 6
"""Most words of a term."""

_NUMBERED = re.compile(r"\w+ (\d+|[IVX]+)")
"""Name of a step, a stage or a column."""

_OUT_OF_PLACE = 6
_LEAST = 4
"""Fewest such lines one after the other: a single one is a heading, a speaker or a note."""


class Glossary(Miner):
    """Lines of a glossary: four or more in a row."""

    name: ClassVar[str] = "glossary"

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield both directions of every line."""
        for term, definition, span in glossary_lines(document.text, self.language.of(self.name, "not_terms")):
            fields = {"term": term, "definition": definition}
            yield Item("glossary.define", fact_key(term), definition, fields, span=span)
            yield Item("glossary.name", fact_key(term), term, fields, reverse=True, span=span)


def glossary_lines(text: str, not_terms: list[str]) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield term, definition and place of the lines of a text's glossaries.

    Args:
        not_terms: Words that begin such a line and are no terms (note, example).
    """
    run: list[re.Match[str]] = []
    for found in (*LINE.finditer(text), None):
        follows = found is not None and bool(run) and not text[run[-1].end() : found.start()].strip()
        if not follows:
            if len(run) >= _LEAST and _is_sorted([each["term"] for each in run]):
                yield from ((each["term"], each["definition"], each.span()) for each in run)
            run = []
        if found is not None and _is_term(found["term"], found["definition"], not_terms):
            run.append(found)


def _is_sorted(terms: list[str]) -> bool:
    """Return True if terms are in alphabetical order, but for one in six.

    Glossaries are, other lists are not: of 233 lists in a nursing textbook, the 50 that this leaves out are
    days, steps, meals and the like.
    """
    keys = [unicodedata.normalize("NFKD", fact_key(term)) for term in terms]
    plain = ["".join(each for each in key if each.isalnum() or each == " ") for key in keys]
    return sum(a > b for a, b in pairwise(plain)) <= len(terms) // _OUT_OF_PLACE


def _is_term(term: str, definition: str, not_terms: list[str]) -> bool:
    return (
        len(term.split()) <= _WORDS
        and not _NUMBERED.fullmatch(term)
        and fact_key(term) not in not_terms
        and fact_key(term) not in fact_key(definition)
        and not definition.startswith(("http", "//"))
    )
