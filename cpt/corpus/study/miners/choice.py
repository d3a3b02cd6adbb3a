"""Mine sentences with a glossary's term left out: four terms to choose from, of which one fits the gap."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, chance, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.miners.glossary import LINE, glossary_lines
from cpt.corpus.study.sentences import SentenceCheck, in_one_line, sentences

_WORD = re.compile(r"[^\W_]+(?:[-'\u2019/\u2013][^\W_]+)*")
_BRACKETS = re.compile(r"\s*\([^()]*\)")
_YEAR = re.compile(r"\(\d{4}[a-z]?\)\.")
"""Year in an entry of a list of references. The title behind it is no sentence."""

_A_DOCUMENT = 2
"""Most sentences for a term in a document."""

_LEAST = 8
"""Fewest words beside the term."""

_LONGEST = 320
"""Most characters of a sentence."""

_SHARED = 3
"""Fewest words that a sentence and the term's definition share: such a sentence says what is meant."""

_LEAD = 2
"""Words by which the right definition must share more with the sentence than that of a wrong option."""

_SPREAD = 0.03
_FREQUENT = 20
"""Share of all definitions, and least number, in which a word says nothing of its term (health, cell)."""

_STEM = 5
"""Letters by which words are compared, without a plural's: enough for muscle and muscular, kiln and kilns."""

_WRONG = 3
"""Wrong options of a sentence."""

_TRIES = 200
"""Terms of all glossaries that are tried as wrong options."""

_RATIO = 2
"""Largest ratio of the lengths of two options."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A term of a glossary.

    Attributes:
        name: Term without what stands in brackets.
        stems: Stems of the definition's words, without common words and those of the name.
        home: Id of the glossary's document.
    """

    name: str
    fact: str
    definition: str
    stems: frozenset[str]
    home: str


class _Terms:
    """Terms by their words in lower case."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], _Term] = {}
        self._longest: dict[str, int] = {}

    def __iter__(self) -> Iterator[_Term]:
        return iter(self._of.values())

    def add(self, term: _Term) -> None:
        """Add a term. Of a term's definitions the first document's by id counts."""
        words = _words(term.name)
        known = self._of.get(words)
        if words and (known is None or term.home < known.home):
            self._of[words] = term
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def get(self, words: tuple[str, ...]) -> _Term | None:
        """Return the term of these words."""
        return self._of.get(words)

    def size(self, words: Sequence[str], at: int) -> int:
        """Return the number of words of the longest term that begins at a word, 0 if none does."""
        longest = min(self._longest.get(words[at], 0), len(words) - at)
        return next((size for size in range(longest, 0, -1) if tuple(words[at : at + size]) in self._of), 0)


class _Gap(NamedTuple):
    """A sentence with a term in it.

    Attributes:
        span: Place of the sentence in its document.
        rest: Stems of the words beside the term.
        shared: Number of stems that the sentence shares with the term's definition.
    """

    term: _Term
    before: str
    after: str
    span: tuple[int, int]
    rest: frozenset[str]
    shared: int


class Choice(Miner):
    """Sentences with a gap and four terms to choose from, of one glossary if it has enough."""

    name: ClassVar[str] = "choice"

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)
        self._not_terms = language.of("glossary", "not_terms")
        self._gap = language.of(self.name, "gap")
        self._articles = frozenset(language.of(self.name, "articles"))
        self._common = frozenset(map(_stem, language.of(self.name, "common")))
        references = "|".join(language.of(self.name, "references"))
        self._references = re.compile(rf"\b(?:{references})\b", re.IGNORECASE)
        self._terms = _Terms()
        self._glossaries: dict[str, list[_Term]] = {}
        self._all: list[_Term] = []
        self._frequent: frozenset[str] = frozenset()
        self._capitals = False

    def learn(self, documents: Iterable[Document]) -> None:
        """Collect the terms of all glossaries."""
        for document in documents:
            found = self._glossary(document)
            if found:
                self._glossaries[document.id] = found
            for term in found:
                self._terms.add(term)
        self._all = sorted(self._terms, key=lambda term: (term.fact, term.name))
        stems = Counter(stem for term in self._all for stem in term.stems)
        most = max(_FREQUENT, _SPREAD * len(self._all))
        self._frequent = frozenset(stem for stem, number in stems.items() if number > most)
        self._capitals = sum(term.name[0].isupper() for term in self._all) * 2 > len(self._all)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield up to two sentences for each term: those that share most words with its definition."""
        glossary, own = self._glossary(document), _Terms()
        for term in glossary:
            own.add(term)
        found: dict[str, list[_Gap]] = {}
        seen: set[str] = set()
        for start, end in self._sentences(document.text):
            sentence = document.text[start:end]
            if sentence not in seen:
                seen.add(sentence)
                for gap in self._gaps(sentence, start, own):
                    found.setdefault(gap.term.fact, []).append(gap)
        items: list[Item] = []
        for gaps in found.values():
            made = 0
            for gap in sorted(gaps, key=lambda gap: (-gap.shared, gap.span)):
                near = glossary if gap.term.home == document.id else self._glossaries[gap.term.home]
                item = self._item(gap, near) if made < _A_DOCUMENT else None
                if item is not None:
                    made += 1
                    items.append(item)
        yield from sorted(items, key=lambda item: (item.span, item.fact))

    def _glossary(self, document: Document) -> list[_Term]:
        terms: dict[tuple[str, ...], _Term] = {}
        for written, definition, _ in glossary_lines(document.text, self._not_terms):
            name = _BRACKETS.sub("", written).strip()
            stems = self._stems(definition) - self._stems(name)
            if name:
                terms.setdefault(_words(name), _Term(name, fact_key(written), definition, stems, document.id))
        return list(terms.values())

    def _stems(self, text: str) -> frozenset[str]:
        return frozenset(_stem(word) for word in _words(text) if len(word) > 2) - self._common

    def _sentences(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the places of whole sentences that are no lines of a glossary."""
        lines = [found.span() for found in LINE.finditer(text)]
        at = 0
        for start, end in sentences(text, self.language):
            while at < len(lines) and lines[at][1] <= start:
                at += 1
            in_glossary = at < len(lines) and lines[at][0] <= start
            whole = text[start].isupper() and text[end - 1] == "." and end - start <= _LONGEST
            if whole and not in_glossary and not _YEAR.search(text, text.rfind("\n", 0, start) + 1, end):
                yield start, end

    def _gaps(self, sentence: str, start: int, own: _Terms) -> Iterator[_Gap]:
        """Yield a sentence's gaps: terms that it has once, and is about."""
        places = list(_WORD.finditer(sentence))
        words = _words(sentence)
        found: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        at = 0
        while at < len(words):
            size = max(own.size(words, at), self._terms.size(words, at))
            if size:
                span = places[at].start(), places[at + size - 1].end()
                found.setdefault(words[at : at + size], []).append(span)
            at += size or 1
        if not found or not self._stands_alone(sentence):
            return
        for key, spans in found.items():
            term = own.get(key) or self._terms.get(key)
            (begin, end), *others = spans
            before, after = sentence[:begin], sentence[end:]
            rest = self._stems(f"{before} {after}")
            if (
                term is not None
                and not others
                and len(words) - len(key) >= _LEAST
                and len((rest & term.stems) - self._frequent) >= _SHARED
                and rest.isdisjoint(self._stems(term.name))
                and self._is_written(term.name, sentence[begin:end])
                and not before.endswith("(")
                and not after.lstrip().startswith("(")
            ):
                span = start, start + len(sentence)
                yield _Gap(term, before, after, span, rest, len(rest & term.stems))

    def _is_written(self, name: str, found: str) -> bool:
        """Return True if a text is a term's name: in any case, but AIDS is no aids, and an Act no act.

        Where most glossaries write their terms with a capital, it says nothing.
        """
        found = " ".join(found.split())
        exact = name.isupper() or (name[0].isupper() and not self._capitals)
        return found == name if exact else found.casefold() == name.casefold()

    def _stands_alone(self, sentence: str) -> bool:
        return (
            self._check.is_sound(sentence)
            and self._check.stands_alone(sentence)
            and not self._references.search(sentence)
        )

    def _item(self, gap: _Gap, near: Sequence[_Term]) -> Item | None:
        """Return the item of a gap, or nothing if there are too few wrong options.

        Args:
            near: Terms of the glossary that the term is from.
        """
        term = gap.term
        rolled = chance(self.name, term.fact, gap.before, gap.after)
        chosen: list[_Term] = []
        for pool in (near, self._all):
            tried = rolled.sample(pool, min(len(pool), _TRIES))
            for other in sorted(tried, key=lambda other: term.stems.isdisjoint(other.stems)):
                if len(chosen) < _WRONG and self._is_wrong(other, gap, chosen):
                    chosen.append(other)
        if len(chosen) < _WRONG:
            return None
        fields = {"sentence": in_one_line(f"{gap.before}{self._gap}{gap.after}")}
        options = (term.name, *(other.name for other in chosen))
        return Item("choice.choose", term.fact, term.name, fields, options, span=gap.span)

    def _is_wrong(self, other: _Term, gap: _Gap, chosen: Sequence[_Term]) -> bool:
        """Return True for a term like the right one that by its definition does not fit the gap."""
        term = gap.term
        options = (term, *chosen)
        article = gap.before.split()[-1:] and gap.before.split()[-1].casefold() in self._articles
        return (
            other.fact not in {option.fact for option in options}
            and _is_like(other.name, term.name)
            and len(gap.rest & other.stems) <= gap.shared - _LEAD
            and not (article and _begins_with_vowel(other.name) != _begins_with_vowel(term.name))
            and not any(_holds(option.name, other.name) for option in options)
            and not any(_holds(other.name, option.name) for option in options)
            and not _holds(f"{gap.before} {gap.after}", other.name)
            and not _holds(term.definition, other.name)
            and not _holds(other.definition, term.name)
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _stem(word: str) -> str:
    return word[:_STEM].rstrip("s")


def _is_like(name: str, other: str) -> bool:
    """Return True for names of like length and form."""
    longer, shorter = max(len(name), len(other)), min(len(name), len(other))
    return (
        longer <= _RATIO * shorter
        and abs(len(name.split()) - len(other.split())) <= 1
        and name[0].isupper() == other[0].isupper()
        and name.isupper() == other.isupper()
        and name.endswith("s") == other.endswith("s")
    )


def _begins_with_vowel(name: str) -> bool:
    return name[0].casefold() in "aeiou"


def _holds(text: str, name: str) -> bool:
    return name.casefold() in text.casefold()
