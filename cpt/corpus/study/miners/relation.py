"""Mine relations of sentences by their connectives: does B follow from A, and what is the cause of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import SentenceCheck, Span, any_of, capital, in_one_line, paragraphs

_FIRST = range(50, 401)
"""Lengths of a first sentence: shorter ones say too little for anything to follow (AdaptLLM, 2309.09530)."""

_SECOND = range(30, 401)
_CAUSE = range(1, 11)
"""Numbers of words of a cause: longer ones hold a clause that may belong elsewhere."""

_EFFECT = range(4, 26)
_CITED = re.compile(r"\s*\([^()]*\b\d{4}[a-z]?\)(?=\.\Z)")
"""A citation at the end of a sentence: (Lund, 2019)."""

_INITIAL = re.compile(r"\b[A-Z]\Z")
"""A letter at the end of an effect: a name was cut behind it."""


class Relation(Miner):
    """Neighbouring sentences with a connective, and sentences that name a cause."""

    name: ClassVar[str] = "relation"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)
        connectives, self._support, self._contrast, self._answers, self._words = (
            language.of(self.name, key) for key in ("connectives", "support", "contrast", "answers", "words")
        )
        self._kinds = {opening: kind for kind, openings in connectives.items() for opening in openings}
        openings = {*self._kinds, *self._support, *self._contrast}
        self._opening = re.compile(rf"(?P<opening>{any_of(openings)})\s+(?P<rest>\S.*)")
        self._no_statement = re.compile(rf"(?:{any_of(language.of(self.name, 'not_statements'))})\b")
        self._addressed = re.compile(rf"\b(?:{any_of(language.of(self.name, 'addressed'))})\b", re.IGNORECASE)
        self._rule = re.compile(rf"\b(?:{any_of(language.of(self.name, 'rules'))})\b", re.IGNORECASE)
        self._case = re.compile(rf"(?:{any_of(language.of(self.name, 'cases'))})\b", re.IGNORECASE)
        self._causes = _Causes(language)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield the items of every pair of neighbours, and those of each sentence with a cause."""
        for paragraph in paragraphs(document.text, self.language):
            for first, second in pairwise(paragraph):
                yield from self._pair(document.text, first, second)
            for start, end in paragraph:
                sentence = in_one_line(document.text[start:end])
                found = self._causes.find(sentence)
                if found and self._check.is_sound(sentence):
                    cause, effect = found
                    fields = {"cause": cause, "effect": effect}
                    fact = f"cause:{fact_key(cause)}"
                    yield Item("relation.effect", fact, f"{effect}.", fields, span=(start, end))
                    if not self._rule.search(effect):
                        yield Item("relation.cause", fact, cause, fields, span=(start, end))

    def _pair(self, text: str, first: Span, second: Span) -> Iterator[Item]:
        """Yield the items of two neighbours, if the second begins with a connective."""
        found = self._opening.match(in_one_line(text[slice(*second)]))
        if not found:
            return
        before = in_one_line(text[slice(*first)])
        after = capital(found["rest"])
        fits = len(before) in _FIRST and len(after) in _SECOND
        fits = fits and not (self._opening.match(before) or self._no_statement.match(before))
        if not fits or not all(each[-1] == "." and self._check.is_sound(each) for each in (before, after)):
            return
        span = (first[0], second[1])
        fields = {"first": before, "second": after}
        fact = f"relation:{fact_key(before)}"
        if kind := self._kinds.get(found["opening"]):
            for task, options in (("entails", self._answers), ("connective", self._words)):
                answer = options[kind]
                every = tuple(options.values())
                yield Item(f"relation.{task}", fact, answer, fields, every, answer, span=span)
        for task, openings in (("support", self._support), ("contrast", self._contrast)):
            told = task == "contrast" and self._addressed.search(f"{before} {after}")
            if found["opening"] in openings and not told and not self._case.match(after):
                yield Item(f"relation.{task}", fact, after, {"first": before}, span=span)


class _Causes:
    """The sentences of a language that name one cause of one effect."""

    def __init__(self, language: Language) -> None:
        because, links, adverbs, changes, passive, not_passive, not_causes, not_effects = (
            any_of(language.of(Relation.name, key))
            for key in (
                *("because", "loose", "adverbs", "changes", "passive", "not_passive"),
                *("not_in_causes", "not_in_effects"),
            )
        )
        self._link = re.compile(because, re.IGNORECASE)
        self._front = re.compile(rf"(?:{because}) (?P<cause>[^,;:]+), (?P<effect>[^;:]+)\.", re.IGNORECASE)
        self._behind = re.compile(
            rf"(?P<effect>[^,;:]+?)(?: (?:{adverbs}))? (?P<link>{because}) (?P<cause>[^,;:]+)\.",
            re.IGNORECASE,
        )
        self._clear = re.compile(rf"\b(?:{changes}|(?:{passive})(?: \w+ly)? (?!{not_passive})\w+ed)\Z")
        self._loose = re.compile(links, re.IGNORECASE)
        self._not_cause = re.compile(rf"\b(?:{not_causes})\b", re.IGNORECASE)
        self._not_effect = re.compile(rf"\b(?:{not_effects})\b", re.IGNORECASE)
        self._advice = re.compile(rf"(?:{any_of(language.of('review', 'verbs'))})\b", re.IGNORECASE)

    def find(self, sentence: str) -> tuple[str, str] | None:
        """Return cause and effect of a sentence; None if it names none, or the halves are not clear."""
        if not self._link.search(sentence):
            return None
        sentence = _CITED.sub("", sentence)
        found = self._front.fullmatch(sentence) or self._behind.fullmatch(sentence)
        if not found:
            return None
        cause, effect = found["cause"], capital(found["effect"])
        link = found.groupdict().get("link")
        # "due to" may belong to the noun in front of it; "because of" belongs to the clause.
        clear = not link or self._loose.match(link) or self._clear.search(effect)
        # "Because of the human-made, lasting change, ...": the first comma is in the cause.
        broken = (not link and cause.endswith("ed")) or _INITIAL.search(effect)
        fits = len(cause.split()) in _CAUSE and len(effect.split()) in _EFFECT
        if (
            not fits
            or not clear
            or broken
            or self._not_cause.search(cause)
            or self._not_effect.search(effect)
            or self._advice.match(effect)
        ):
            return None
        return cause, effect
