"""Mine sections that sum a text up, and the lists of what a reader is to learn from it."""
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
from cpt.corpus.study.miners.title import heading_of, lines_of, shared_words, title_of
from cpt.corpus.study.sentences import opening, sentences

_SUMMARY = range(80, 701)
"""Characters of a summary."""

_OUTCOME = 250
"""Most characters of an outcome. Longer lines are paragraphs."""

_OUTCOMES = range(2, 13)
_MARKS = "#*=_•·▪■-–—: \t"
_ENDED = re.compile(r"[.!?…][\"'”’)\]]*$")
_FIRST = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\(?\w{1,2}[.)]\s+")

Span = tuple[int, int]


class Review(Miner):
    """Summaries and learning outcomes of documents that have one of them, and a title of their own."""

    name: ClassVar[str] = "review"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._summaries = frozenset(language.of(self.name, "summaries"))
        self._outcomes = frozenset(language.of(self.name, "outcomes"))
        self._verbs = frozenset(language.of(self.name, "verbs"))
        self._minor = frozenset(language.of("title", "minor_words"))
        self._titles: Counter[str] = Counter()

    def learn(self, documents: Iterable[Document]) -> None:
        """Count titles: one of several documents does not tell which is meant."""
        self._titles.update(
            fact_key(title_of(document.text, lines_of(document.text))) for document in documents
        )

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield the tasks on outcomes and on the summary, in the order of the text."""
        text = document.text
        lines = lines_of(text)
        title = title_of(text, lines)
        if not title or self._titles[fact_key(title)] > 1:
            return
        found = [*self._outcome_items(text, lines, title), *self._summary_items(text, lines, title)]
        yield from sorted(found, key=lambda item: item.span)

    def _summary_items(self, text: str, lines: Sequence[Span], title: str) -> Iterator[Item]:
        heads = self._heads(text, lines, self._summaries)
        if len(heads) != 1:
            return
        whole, spans = "", []
        for start, end in self._prose(text, lines[heads[0] + 1 :]):
            if len(whole) < _SUMMARY.stop:
                whole = f"{whole} {text[start:end].lstrip(_MARKS)}".strip()
                spans.append((start, end))
        summary = opening(whole, _SUMMARY.stop - 1, self.language)
        if len(summary) not in _SUMMARY or not shared_words(title, summary, self._minor):
            return
        fact, span = fact_key(title), (spans[0][0], spans[-1][1])
        if len(summary) == len(whole):  # half of a summary is none
            yield Item("review.summary", fact, summary, {"title": title}, span=span, hidden=span)
        yield Item("review.reverse_summary", fact, title, {"summary": summary}, reverse=True, span=span)

    def _outcome_items(self, text: str, lines: Sequence[Span], title: str) -> Iterator[Item]:
        heads = self._heads(text, lines, self._outcomes)
        if len(heads) != 1:
            return
        follow = lines[heads[0] + 1 :]
        if follow and text[slice(*follow[0])].rstrip().endswith((":", "…", "...")):
            follow = follow[1:]
        spans = list(self._list(text, follow))
        if len(spans) not in _OUTCOMES or self._goes_on(text, spans[-1], follow[len(spans) :]):
            return
        answer = "; ".join(_entry(text[start:end]).rstrip(".;, ") for start, end in spans)
        span = (spans[0][0], spans[-1][1])
        yield Item("review.outcomes", fact_key(title), answer, {"title": title}, span=span, hidden=span)

    def _heads(self, text: str, lines: Sequence[Span], names: frozenset[str]) -> list[int]:
        """Return the numbers of the lines that are one of the headings."""
        return [
            at
            for at, (start, end) in enumerate(lines)
            if end - start < 60 and fact_key(text[start:end].strip(_MARKS)) in names
        ]

    def _prose(self, text: str, lines: Sequence[Span]) -> Iterator[Span]:
        """Yield the lines of a summary, up to a heading, a question, a glossary or a line in lower case."""
        glossary = {span[0] for *_, span in glossary_lines(text, self.language.of("glossary", "not_terms"))}
        begun = False
        for start, end in lines:
            line = text[start:end]
            question = line.endswith("?")
            if question and not begun:
                continue
            if start in glossary or line[:1].islower() or question or not _ENDED.search(line):
                return
            begun = True
            yield start, end

    def _list(self, text: str, lines: Sequence[Span]) -> Iterator[Span]:
        """Yield the entries of a list of outcomes: single sentences that begin with a verb and end alike."""
        ended = None
        for start, end in lines:
            entry = _entry(text[start:end])
            first = _FIRST.match(entry)
            alike = ended in (None, _is_full(entry))
            if not (alike and first and first[0].casefold() in self._verbs and self._is_single(entry)):
                return
            ended = _is_full(entry)
            yield start, end

    def _is_single(self, entry: str) -> bool:
        return len(entry) <= _OUTCOME and sum(1 for _ in sentences(entry, self.language)) == 1

    def _goes_on(self, text: str, last: Span, rest: Sequence[Span]) -> bool:
        """Return True if a line that may be an entry too stands behind a list: its verb is unknown."""
        if not rest:
            return False
        line = text[slice(*rest[0])]
        alike = _is_full(line) == _is_full(text[slice(*last)])
        return alike and self._is_single(line) and not heading_of(line)


def _entry(line: str) -> str:
    line = line.strip().lstrip(_MARKS)
    number = _NUMBER.match(line)
    return line[number.end() :] if number else line


def _is_full(entry: str) -> bool:
    return entry.endswith((".", ";"))
