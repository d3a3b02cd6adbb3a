"""Mine sentences that say what something is ("A nephron is a unit of the kidney that ..."), both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.reference import noun_form
from cpt.corpus.study.sentences import SentenceCheck, any_of, in_one_line, paragraphs

_SENTENCE = range(40, 301)
_TERM = range(1, 6)
"""Numbers of words of a term."""

_DEFINITION = range(5, 41)
"""Numbers of words of a definition: shorter ones are a name of the kind alone."""

_POSSESSIVE = re.compile(r"(?:^| )[a-z]\w*['’]")  # noqa: RUF001
"""A term that belongs to one thing of many: "object's mass"; Paget's disease is none."""

_NOTE = re.compile(r"\s*\([^()]*\)")
_WORD = re.compile(r"[\w’'%-]+|,")  # noqa: RUF001
_FORM = re.compile(r"(?<![\w./@-])[\w/@-]++(?!\.[\w/@-])")
"""A word as a text writes it: no piece of a compound, an address or an abbreviation."""

_USED = 8
"""Most times that a text uses a term in front of its definition: what it says later is seldom one.

Of sentences that were read, 18% of those behind more uses defined nothing, of the others 9%.
"""

_QUOTES = "\"'“‘"  # noqa: RUF001
_CITED = re.compile(r"\s*\([^()]*(?:\b\d{4}[a-z]?|n\.d\.[^()]*)\)")
"""A citation: (Lund, 2019)."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A term and what it is.

    Attributes:
        named: Term with its article, as it stands in the middle of a sentence.
    """

    term: str
    named: str
    definition: str


class Copular(Miner):
    """The first definition of each term of a document."""

    name: ClassVar[str] = "copular"

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        conjunctions, relatives = (
            any_of(language.of(self.name, key)) for key in ("conjunctions", "relatives")
        )
        self._cut = re.compile(rf"\b(?:{conjunctions}|(?:{relatives}) \w+)\Z")
        self._relative = re.compile(rf"\b(?:{relatives})\b")
        self._check = SentenceCheck(language)
        articles, copulas, the_term, means, called, ends, more_ends, subjects, goes_on = (
            any_of(language.of(self.name, key))
            for key in (
                *("articles", "copulas", "the_term", "means", "called"),
                *("ends", "ends_behind_comma", "subjects", "goes_on"),
            )
        )
        pointers, accidents, kinds, adverbs, adjective_ends = (
            any_of(language.of(self.name, key))
            for key in ("pointers", "accidents", "kinds", "adverbs", "adjective_ends")
        )
        article = rf"(?:(?P<article>{articles}) )?"
        term = r"(?P<term>[^\s,;:.?!()\"“”—]+(?: [^\s,;:.?!()\"“”—]+){0,4})"
        self._forward = re.compile(
            rf"(?i:(?:(?:{the_term}) )?{article}){term}(?: \([^()]*\))? "
            # Not "refers to nurses as the backbone"
            rf"(?:(?P<copula>{copulas}) (?=(?:{articles}) )|(?:{means}) (?!.* as ))(?P<definition>[^:?!]+)\."
        )
        self._backward = re.compile(
            rf"(?P<definition>[^,:;?!]+) (?:{called}) (?i:{article}){term}(?: \([^()]*\))?\."
        )
        self._links = re.compile(rf" (?:{copulas}|{means}|{called}) ")
        # Not "that appears to be in layers but consists of one"
        self._ends = re.compile(rf"; |,? (?:{ends}) (?=(?:{subjects}) )|, (?:{more_ends}) ")
        # Not "is the junction of two folds and is the organ that …"
        self._goes_on = re.compile(rf",? and (?:(?:{adverbs}) )?(?:{goes_on}) (?!(?:{articles}) )")
        # ", afterload is the pressure": what follows is no part of the definition
        self._clause = re.compile(rf"(?:, |—)(?:(?!(?:{relatives}) )[^\s,]+ ){{0,4}}(?:{copulas}|are) ")
        self._pointers = re.compile(rf"\b(?:{pointers})\b", re.IGNORECASE)
        self._accidents = re.compile(rf"\b(?:{accidents})\b", re.IGNORECASE)
        self._adjective = re.compile(rf"[^ ]+(?:{adjective_ends})")
        # "a form of barter" has a kind and no difference
        self._kind_alone = re.compile(rf"(?:(?:{articles}) )?(?:[\w-]+ )?(?:{kinds}) of(?: [^\s,]+){{1,4}}")
        self._articles = frozenset(language.of(self.name, "articles"))
        self._definite = frozenset(language.of("reference", "articles"))
        self._not_in_terms = frozenset(language.of(self.name, "not_in_terms"))
        self._not_terms = frozenset(language.of(self.name, "not_terms"))
        self._not_alone = frozenset(language.of(self.name, "not_alone"))
        self._not_definitions = frozenset(language.of(self.name, "not_definitions"))
        self._not_in_definitions = frozenset(language.of(self.name, "not_in_definitions"))
        self._not_superlatives = frozenset(language.of(self.name, "not_superlatives"))
        self._after_noun = frozenset(language.of(self.name, "after_noun"))

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield both directions of the first definition of each term."""
        seen: set[str] = set()
        # Once for the document: a search for each word took 4.4 of 5 s in a text of 2.8 MB.
        forms = frozenset(_FORM.findall(document.text))
        for paragraph in paragraphs(document.text, self.language):
            for start, end in paragraph:
                sentence = in_one_line(_CITED.sub("", document.text[start:end]))
                if len(sentence) not in _SENTENCE or not self._links.search(sentence):
                    continue
                found = self._definition(sentence, forms)
                if found is None or fact_key(found.term) in seen or not self._check.is_sound(sentence):
                    continue
                fact = fact_key(found.term)
                seen.add(fact)
                if _uses(found.term, document.text[:start]) > _USED:
                    continue
                fields = {"term": found.term, "named": found.named, "definition": found.definition}
                yield Item("copular.define", fact, found.definition, fields, span=(start, end))
                yield Item("copular.name", fact, found.term, fields, reverse=True, span=(start, end))

    def _definition(self, sentence: str, forms: Set[str]) -> _Found | None:
        """Return what a sentence defines; None if it defines nothing, or if that is not clear.

        Args:
            forms: Forms in which the document writes words.
        """
        matched = self._forward.fullmatch(sentence) or self._backward.fullmatch(sentence)
        if not matched:
            return None
        backward = matched.re is self._backward
        article = (matched["article"] or "").lower()
        term, definition = matched["term"], _NOTE.sub("", matched["definition"])
        if backward:
            definition = "" if self._cut.search(definition) else self._uncapitalised(definition, forms)
        else:
            definition = self._first_clause(definition)
            term = term if article else self._uncapitalised(term, forms)
        noun = backward or matched["copula"] is not None
        if article in self._definite and term.lower() in self._not_alone:
            return None
        if backward and not article and self._adjective.fullmatch(term):
            return None
        if not self._is_term(term) or not self._defines(definition, term, noun=noun):
            return None
        return _Found(term, f"{article} {term}".strip(), definition)

    def _first_clause(self, definition: str) -> str:
        """Return a definition without what is said of its term behind it; nothing if it may be cut."""
        clause = self._ends.split(definition)[0]
        added = self._goes_on.search(clause)
        # "an oil gland that is found all over the body and helps to lubricate the skin" stays whole: what
        # goes on may be the relative clause, and is true of the term in any case.
        if added and not self._relative.search(clause, 0, added.start()):
            clause = clause[: added.start()]
        elif not added and clause.count(",") == 1:
            # One comma is in front of a second main clause, two and more are in a list.
            clause = clause.split(", and ")[0]
        return "" if self._cut.search(clause) else clause

    def _is_term(self, term: str) -> bool:
        words = term.lower().split()
        return (
            len(words) in _TERM
            and len(term) > 2
            and not self._not_in_terms.intersection(words)
            and words[-1] not in self._not_terms
            and not any(character.isdigit() for character in term)
            and not _POSSESSIVE.search(term)
        )

    def _defines(self, definition: str, term: str, *, noun: bool) -> bool:
        """Return True for a definition that holds in itself, and does not only judge.

        Args:
            noun: Whether it must begin with a noun that says the kind.
        """
        words = _WORD.findall(definition.lower())
        if len(words) not in _DEFINITION or self._not_in_definitions.intersection(words):
            return False
        if any(character.isdigit() for character in definition) or definition[0] in _QUOTES:
            return False
        if set(map(noun_form, _WORD.findall(term.lower()))) <= set(map(noun_form, words)):
            return False
        if any(
            pattern.search(definition) for pattern in (self._pointers, self._accidents, self._clause)
        ) or self._kind_alone.fullmatch(definition):
            return False
        return not noun or self._says_kind(words)

    def _says_kind(self, words: list[str]) -> bool:
        """Return True if a noun is limited by what follows it, and neither it nor its adjectives judge."""
        after = next((at for at, word in enumerate(words) if word in self._after_noun), 0)
        kind = words[words[0] in self._articles : after]
        superlative = any(word.endswith("est") and word not in self._not_superlatives for word in kind)
        return (
            bool(kind)
            and words[after - 1] != ","
            and not superlative
            and not self._not_definitions.intersection(kind)
        )

    def _uncapitalised(self, phrase: str, forms: Set[str]) -> str:
        """Return the first words of a sentence as they are within one; nothing for what may be a person."""
        first, *others = phrase.split()
        if first[1:].lower() != first[1:]:
            return phrase
        lowered = phrase[0].lower() + phrase[1:]
        if first.lower() in self._articles:
            return lowered
        if any(word[0].isupper() and word[1:].islower() for word in others):
            return ""
        return lowered if forms >= set(_FORM.findall(first.lower())) else ""


def _uses(term: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(term)}\b", text, re.IGNORECASE))
