"""Mine sentences with several words of the domain: the sentence from its words.

The other direction, the words of a sentence, was right for 31 of 53 items that were read: which words are
its main ones is no matter of their rarity.
"""
# ruff: noqa: RUF001 - quotes and dashes of texts

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.miners.glossary import glossary_lines
from cpt.corpus.study.miners.title import first_line, is_paragraph, lines_of
from cpt.corpus.study.reference import ReferenceCheck
from cpt.corpus.study.sentences import SentenceCheck, paragraphs

_WORD = re.compile(r"(?<![\w-])[^\W\d_]{8,}(?![\w-])")
"""A word that may be a domain's: short ones are seldom technical, and pieces of a compound are no words."""

_LEAST = 3
"""Fewest times that a word of the domain occurs: rarer ones are names and slips."""

_SURPLUS = 1.2
"""Least residual inverse document frequency of a word of the domain, in bits (Church and Gale, 1995).

It compares the documents that have a word with those that would have it if its occurrences were scattered at
random: a text's subject comes back, "particularly" does not. 1.2 bits are 2.3 times in each of few documents.
A limit on the share of documents instead loses the words that matter most: in a book of anatomy 5% of the
sections leave out "capillaries", "receptors" and 250 more.
"""

_SPREAD = 0.25
"""Largest share of documents with a word of the domain."""

_CHARACTERS = range(60, 301)
_WORDS = range(3, 7)
"""Number of domain words of a sentence. More make a list."""

_ASKED = 4
"""Most words that a sentence is asked for with."""

_A_DOCUMENT = 2
_STEM = 6
"""Letters that the forms of a word share: of antibody and antibodies one is asked for."""

_SENTENCE = re.compile(r"[\"“‘]?[^\W\d_a-z].*\.[\"”’)]*", re.DOTALL)
_CITED = re.compile(r"\([^()]*\b(?:1[5-9]|20)\d\d\b[^()]*\)|\([^()]*\bet al\b[^()]*\)")
"""A reference in brackets: its names are no words of the sentence."""


class _Found(NamedTuple):
    start: int
    end: int
    words: tuple[str, ...]
    weight: float


class Keywords(Miner):
    """Sentences with three or more words that come back within documents, at most two of a document."""

    name: ClassVar[str] = "keywords"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._weights: dict[str, float] = {}
        self._plain: set[str] = set()
        self._check = SentenceCheck(language)
        self._reference = ReferenceCheck(language)
        self._never = frozenset(language.of(self.name, "never"))
        self._front = frozenset(language.of("title", "front_matter"))
        self._imperatives = frozenset(language.of("review", "verbs")) | set(
            language.of(self.name, "imperatives")
        )

    def learn(self, documents: Iterable[Document]) -> None:
        """Find the words of the domain, and those of them that are written without a capital."""
        times: Counter[str] = Counter()
        plain: Counter[str] = Counter()
        found_in: Counter[str] = Counter()
        number = 0
        for document in documents:
            folded: Counter[str] = Counter()
            for word, count in Counter(_WORD.findall(document.text)).items():
                folded[word.casefold()] += count
                if word.islower():
                    plain[word.casefold()] += count
            times.update(folded)
            found_in.update(folded.keys())
            number += 1
        for word, count in times.items():
            surplus = _residual(count, found_in[word], number)
            fits = count >= _LEAST and found_in[word] <= _SPREAD * number and word not in self._never
            if fits and surplus >= _SURPLUS:
                self._weights[word] = surplus
        self._plain.update(word for word in self._weights if plain[word] > times[word] / 2)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield the sentences with the most surplus."""
        if first_line(document.text, lines_of(document.text)) in self._front:
            return
        found = sorted(self._sentences(document.text), key=lambda each: (-each.weight, each.start))
        for start, end, words, _ in sorted(found[:_A_DOCUMENT]):
            sentence = document.text[start:end]
            asked = sorted(words, key=lambda word: -self._weights[word.casefold()])[:_ASKED]
            fields = {"words": ", ".join(word for word in words if word in asked)}
            fact, span = fact_key(sentence), (start, end)
            yield Item("keywords.sentence", fact, sentence, fields, span=span, hidden=span)

    def _sentences(self, text: str) -> Iterator[_Found]:
        glossary = {span[0] for *_, span in glossary_lines(text, self.language.of("glossary", "not_terms"))}
        introduced = self._reference.introduced(text)
        spans = (span for paragraph in paragraphs(text, self.language) for span in paragraph)
        for start, end in spans:
            sentence = text[start:end]
            whole = end - start in _CHARACTERS and _is_prose(sentence) and start not in glossary
            # An instruction is a learning outcome, a reference, or an entry of a list ("do not:").
            asks = sentence.split(None, 1)[0].casefold() in self._imperatives
            words = self._domain_words(sentence) if whole and not asks else []
            if (
                len(words) in _WORDS
                and self._check.is_sound(sentence)
                and is_paragraph(_line(text, start))
                and self._reference.stands_alone(sentence, introduced)
            ):
                weight = sum(self._weights[word.casefold()] for word in words)
                yield _Found(start, end, tuple(words), weight)

    def _domain_words(self, sentence: str) -> list[str]:
        """Return the domain's words of a sentence in their order, each in one form."""
        words: dict[str, str] = {}
        for found in _WORD.finditer(_CITED.sub(_blank, sentence)):
            word = folded = found[0].casefold()
            if folded in self._weights:
                if found.start() > 1 or folded not in self._plain:
                    word = found[0]
                words.setdefault(folded[:_STEM], word)
        return list(words.values())


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _line(text: str, place: int) -> str:
    end = text.find("\n", place)
    return text[text.rfind("\n", 0, place) + 1 : len(text) if end < 0 else end]


def _residual(times: int, found_in: int, documents: int) -> float:
    """Return the residual inverse document frequency of a word in bits.

    Args:
        times: Number of its occurrences.
        found_in: Number of documents that have it.
    """
    expected = -math.expm1(-times / documents)
    return math.log2(expected * documents / found_in)


def _is_prose(sentence: str) -> bool:
    """Return True for a sentence of running text: no list of names or numbers, and no piece of one."""
    words = sentence.split()
    capitals = sum(word[:1].isupper() for word in words)
    digits = sum(character.isdigit() for character in sentence)
    return (
        _SENTENCE.fullmatch(sentence) is not None
        and capitals <= 0.4 * len(words)
        and digits <= 0.08 * len(sentence)
    )
