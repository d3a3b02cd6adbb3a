"""Mine titles and headings: a text's title from its words, a heading from the paragraph under it."""
# ruff: noqa: RUF001 - quotes and dashes of texts

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.miners.glossary import glossary_lines
from cpt.corpus.study.sentences import opening

PARAGRAPH = 200
"""Least characters of a line that is a paragraph. Entries of lists and captions are shorter."""

_WORDS = range(2, 15)
_LONGEST = 110
_LETTERS = 0.7
"""Least share of letters in a title: numbers of cases and formulas have fewer."""

_ARTICLE = 600
_EXCERPT = 900

_MARKS = "#*=_ \t"
"""Marks of headings in plain text and Markdown."""

_NUMBER = re.compile(r"§+\s*\w[\w.–-]*[:)]?\s+|\d{1,3}(?:[.:)]|(?:\.\d{1,3})+[.:)]?)\s+|[IVXLC]{2,}[.:)]\s+")
"""Number of a section in front of its title: "3.2 Joints", "§ 101. Definitions", "II. Facts".

A single letter is left, and makes the line no title: "A. Facts" cannot be told from "A. Smith".
"""

_FREE = 5
_CAPITALS = 0.4
"""Least share of capitalised words of a heading of more than five: others are pieces of broken lines."""

_STOP = re.compile(r"[^\W\d_]{4}\. ")
"""A sentence's end within a line."""

_ENDED = re.compile(r"[.!?…][\"'”’)\]]*$")
_REFERENCE = re.compile(r"https?:|www\.|\bdoi\b|\((?:(?:1[5-9]|20)\d\d[a-z]?(?:, [^()]*)?|n\.d\.)\)\.")
"""Part of an entry of a bibliography: an address, or a year in brackets with a full stop."""

_WORD = re.compile(r"[^\W\d_]+")
_STEM = 5
"""Letters of a word that its inflected forms share: metabolism, metabolic."""

_IN_TEXT = 0.5
"""Least share of a title's words that one of its paragraphs has. Slogans and lines of a cover have fewer."""

_IN_PARAGRAPH = 0.6
"""Least share of a heading's words that its first paragraph has: of two words both."""

_COMMON = 0.02
"""Largest share of documents with the same heading: more have those that belong to the layout."""

_FEW = 3
"""Number of documents that may always have the same heading."""


class Title(Miner):
    """Titles of documents and headings in them.

    `article` is an open task: it asks for the beginning of the text, which nobody can know from the title
    alone. It is not for probes.
    """

    name: ClassVar[str] = "title"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._minor = frozenset(language.of(self.name, "minor_words"))
        self._layout = frozenset(language.of(self.name, "layout"))
        self._front = frozenset(language.of(self.name, "front_matter"))
        self._titles: Counter[str] = Counter()
        self._headings: Counter[str] = Counter()
        self._documents = 0

    def learn(self, documents: Iterable[Document]) -> None:
        """Count in how many documents each title and heading occurs."""
        for document in documents:
            self._documents += 1
            lines = lines_of(document.text)
            self._titles.update({fact_key(title_of(document.text, lines))})
            self._headings.update({fact_key(text) for text, _ in self._headed(document.text, lines)})

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield the tasks on the title, then each heading with its paragraph."""
        lines = lines_of(document.text)
        yield from self._of_title(document.text, lines)
        if first_line(document.text, lines) in self._front:
            return
        most = max(_FEW, _COMMON * self._documents)
        for heading, (start, end) in self._headed(document.text, lines):
            paragraph = opening(document.text[start:end], _EXCERPT, self.language)
            fact, fields, span = fact_key(heading), {"paragraph": paragraph}, (start, start + len(paragraph))
            fits = len(paragraph) >= PARAGRAPH and self._shared(heading, paragraph) >= _IN_PARAGRAPH
            if fits and self._headings[fact] <= most:
                yield Item("title.heading", fact, heading, fields, reverse=True, span=span)

    def _of_title(self, text: str, lines: Sequence[tuple[int, int]]) -> Iterator[Item]:
        title = title_of(text, lines)
        fact = fact_key(title)
        paragraphs = [(start, end) for start, end in lines[1:] if is_paragraph(text[start:end])]
        if not title or not paragraphs or fact in self._layout or self._titles[fact] > 1:
            return
        # The last of the best paragraphs: the title itself is seldom in sight there.
        shared = [self._shared(title, text[start:end]) for start, end in paragraphs]
        best = max(range(len(paragraphs)), key=lambda at: (shared[at], at))
        if shared[best] < _IN_TEXT:
            return
        yield Item("title.title", fact, title, span=paragraphs[0], hidden=lines[0])
        yield Item("title.topic", fact, title, span=paragraphs[best], hidden=lines[0])
        beginning = opening(_run(text, lines, paragraphs[0]), _ARTICLE, self.language)
        if len(beginning) >= PARAGRAPH and self._begins(text, lines, lines.index(paragraphs[0])):
            yield Item("title.article", fact, beginning, {"title": title}, reverse=True, span=paragraphs[0])

    def _begins(self, text: str, lines: Sequence[tuple[int, int]], at: int) -> bool:
        """Return True if only headings, questions or learning outcomes stand between the title and a line."""
        between = [text[slice(*line)] for line in lines[1:at]]
        listed = bool(between) and fact_key(between[0].strip(_MARKS)) in self._layout
        entry = bool(between) and text[lines[at][0]] == "("
        return not entry and (listed or all(line.endswith("?") or heading_of(line) for line in between))

    def _shared(self, title: str, text: str) -> float:
        return shared_words(title, text, self._minor)

    def _headed(self, text: str, lines: Sequence[tuple[int, int]]) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield headings with the places of their first paragraphs.

        In front of a heading a sentence ends; a short line without a full stop in front of it makes it an
        entry of a list.
        """
        glossary = {span[0] for *_, span in glossary_lines(text, self.language.of("glossary", "not_terms"))}
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
            heading = heading_of(text[slice(*line)])
            if (
                heading
                and (before == lines[0] or _ENDED.search(text[slice(*before)]))
                and is_paragraph(text[slice(*after)])
                and fact_key(heading) not in self._layout
                and not glossary & {line[0], after[0]}
            ):
                yield heading, after


def lines_of(text: str) -> list[tuple[int, int]]:
    """Return the places of a text's lines with text, without the space around them."""
    places = []
    at = 0
    for line in text.split("\n"):
        if bare := line.strip():
            start = at + len(line) - len(line.lstrip())
            places.append((start, start + len(bare)))
        at += len(line) + 1
    return places


def first_line(text: str, lines: Sequence[tuple[int, int]]) -> str:
    """Return the key of a text's first line, which tells a preface or an imprint."""
    return fact_key(_bare(text[slice(*lines[0])])) if lines else ""


def title_of(text: str, lines: Sequence[tuple[int, int]]) -> str:
    """Return the title of a document, its first line if it is short and no sentence; empty if it has none."""
    if len(lines) < 2:
        return ""
    title = _bare(text[slice(*lines[0])])
    return title if len(title.split()) in _WORDS and _is_titular(title) and title[-1] not in ".,;:…" else ""


def heading_of(line: str) -> str:
    """Return the text of a line that may be a heading; empty if it is none."""
    heading = _bare(line)
    words = heading.split()
    if len(words) not in range(1, _WORDS.stop) or not _is_titular(heading) or heading[-1] in ".,;:…!?":
        return ""
    capitals = sum(not word[0].islower() for word in words)
    broken = (len(words[-1]) <= 3 and words[-1].islower()) or _STOP.search(heading)
    return "" if broken or (len(words) > _FREE and capitals < _CAPITALS * len(words)) else heading


def is_paragraph(line: str) -> bool:
    """Return True for a line of prose, not of a bibliography."""
    prose = len(line) >= PARAGRAPH and not line[0].islower() and not _REFERENCE.search(line)
    return prose and _ENDED.search(line) is not None


def shared_words(title: str, text: str, minor: frozenset[str]) -> float:
    """Return the share of a title's words that a text has in some form; 0 for a title without any.

    Args:
        minor: Words that say nothing of a title's subject.
    """
    words = _stems(title, minor)
    return len(words & _stems(text, minor)) / len(words) if words else 0.0


def _stems(text: str, minor: frozenset[str]) -> set[str]:
    words = (word.casefold() for word in _WORD.findall(text))
    return {word[:_STEM] for word in words if len(word) > 2 and word not in minor}


def _bare(line: str) -> str:
    line = line.strip(_MARKS)
    number = _NUMBER.match(line)
    return line[number.end() :] if number else line


def _is_titular(line: str) -> bool:
    if not line or len(line) > _LONGEST or "http" in line or "|" in line:
        return False
    first = line.lstrip("\"'“‘«")[:1]
    lettered = line[1:3] in (". ", ") ")
    letters = sum(character.isalpha() for character in line)
    begins = first.isalpha() and not first.islower() and not lettered
    return begins and letters >= _LETTERS * len(line.replace(" ", ""))


def _run(text: str, lines: Sequence[tuple[int, int]], first: tuple[int, int]) -> str:
    """Return the text from a paragraph on up to the first line that is none."""
    at = lines.index(first)
    end = first[1]
    for start, stop in lines[at:]:
        if not is_paragraph(text[start:stop]):
            break
        end = stop
    return text[first[0] : end]
