"""Remove lines that repeat across many documents of a source, and the numbers of pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document

_DIGITS = re.compile(r"\d+")
_PAGE_OF = re.compile(r"\b(page|p\.|pg\.)(\s?)\d+(?:(\s?(?:of|/)\s?)\d+)?", re.IGNORECASE)
_PAGE = re.compile(
    r"(?:(?P<bare>\d{1,4})|[-\u2013\u2014]\s?(?P<dashes>\d{1,4})\s?[-\u2013\u2014]|\[(?P<brackets>\d{1,4})\]"
    r"|(?:page|p\.|pg\.)\s?(?P<page>\d{1,4})(?:\s?(?:of|/)\s?\d{1,4})?|(?P<of>\d{1,4})\s?(?:of|/)\s?\d{1,4})",
    re.IGNORECASE,
)
_FEWEST_PAGES = 3
_FEWEST_CHARACTERS = 500
"""Least text on a page. Items of a list may be numbered on lines of their own, but are shorter."""


class Boilerplate(Block):
    """Lines that many documents of a source have in common: headers, footers, notices, menus.

    A line is compared without the white space around it, and with page numbers as 0, so "Page 3 of 12" is one
    line on all pages. Lines without a word of three letters are not compared: they number sections. Llama 3
    (arXiv 2407.21783, section 3.1.1) removes lines by their number alone, which in text of one domain also
    takes headings and clauses; hence the share.
    """

    learns: ClassVar[bool] = True
    kind: Literal["boilerplate"] = "boilerplate"
    documents: int = Field(
        default=10, ge=2, description="Fewest documents of the source that must have a line for its removal."
    )
    share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Smallest share of the source's documents that must have a line for its removal; lower "
        "for text of many web sites, whose headers are each in few documents.",
    )
    longest: int = Field(
        default=200, ge=1, description="Most characters of a line; longer ones are not compared."
    )
    ignore_numbers: bool = Field(
        default=False,
        description="Compare lines with every number as 0, for running headers with dates and docket "
        "numbers. Not for forms and tables, whose lines differ in nothing else.",
    )
    page_numbers: bool = Field(
        default=True,
        description="Remove lines that are a page number, if at least three in a row count up by one.",
    )
    lines: list[str] = Field(
        default=[],
        description="Lines to remove besides those found, with page numbers (or all) written as 0.",
    )
    most_lines: int = Field(
        default=500_000,
        ge=1000,
        description="Most different lines that are counted at once, about 200 bytes each; beyond it, lines "
        "may be counted too low, so that fewer are removed.",
    )

    def learn(self, documents: Iterable[Document]) -> Boilerplate:
        """Return the block with the lines that enough documents have."""
        counter = LineCounter(self.most_lines)
        for document in documents:
            counter.add({key for line in document.text.split("\n") if (key := self._key(line))})
        fewest = max(self.documents, self.share * counter.documents)
        found = {line for line, count in counter.counts.items() if count >= fewest}
        return self.model_copy(update={"lines": sorted(found.union(self.lines))})

    def prepare(self) -> Cleaner:
        known = frozenset(self.lines)

        def clean(document: Document) -> Document:
            lines = document.text.split("\n")
            drop = {at for at, line in enumerate(lines) if known and self._key(line) in known}
            if self.page_numbers:
                drop |= _page_numbers(lines)
            if not drop:
                return document
            text = "\n".join(line for at, line in enumerate(lines) if at not in drop)
            return replace(document, text=text)

        return clean

    def _key(self, line: str) -> str:
        """Return a line as it is compared; empty for one that is not."""
        line = line.strip()
        if len(line) > self.longest or not _has_word(line):
            return ""
        return _DIGITS.sub("0", line) if self.ignore_numbers else _PAGE_OF.sub(_page_zero, line)


def _page_zero(match: re.Match[str]) -> str:
    page, space, of = match.groups()
    return f"{page}{space}0{of}0" if of else f"{page}{space}0"


def _has_word(line: str) -> bool:
    """Return True if a line has three letters in a row."""
    run = 0
    for character in line:
        run = run + 1 if character.isalpha() else 0
        if run == 3:
            return True
    return False


class LineCounter:
    """Counts of the documents that have a line, in bounded memory (Misra and Gries 1982, in batches).

    Whenever there are too many lines, every count is lowered by one and lines at zero go, until half of the
    most are left. So a count is never too high, and too low by at most `lowered`.
    """

    def __init__(self, most: int) -> None:
        self.counts: dict[str, int] = {}
        self.documents = 0
        self.lowered = 0
        self._most = most

    def add(self, lines: Iterable[str]) -> None:
        """Count the different lines of one document."""
        self.documents += 1
        for line in lines:
            self.counts[line] = self.counts.get(line, 0) + 1
        if len(self.counts) <= self._most:
            return
        while len(self.counts) > self._most // 2:
            self.lowered += 1
            self.counts = {line: count - 1 for line, count in self.counts.items() if count > 1}


def _page_numbers(lines: list[str]) -> set[int]:
    """Return the positions of lines that are page numbers, each one more than the last of the same form."""
    runs: dict[str, list[tuple[int, int, int]]] = {}
    found: set[int] = set()
    passed = 0
    for at, line in enumerate(lines):
        for form, number in _page(line):
            run = runs.setdefault(form, [])
            apart = form != "bare" or not run or passed - run[-1][2] >= _FEWEST_CHARACTERS
            if run and not (number == run[-1][1] + 1 and apart):
                found |= _long_enough(run)
                run.clear()
            run.append((at, number, passed))
        passed += len(line)
    for run in runs.values():
        found |= _long_enough(run)
    return found


def _page(line: str) -> Iterator[tuple[str, int]]:
    """Yield the form and the number of a line that may be a page number."""
    if len(line) < 100 and (match := _PAGE.fullmatch(line.strip())):
        form = match.lastgroup or ""
        yield form, int(match.group(form))


def _long_enough(run: list[tuple[int, int, int]]) -> set[int]:
    return {at for at, _, _ in run} if len(run) >= _FEWEST_PAGES else set()
