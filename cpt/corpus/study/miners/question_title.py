"""Mine titles that state something: "Zinc is not a gas" becomes "Is zinc a gas?", answered by no."""
# ruff: noqa: RUF001 - quotes as texts have them

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import SentenceCheck, Span, any_of, capital, in_one_line

_SUBJECT = range(1, 9)
_REST = range(1, 26)
_TITLE = range(15, 201)
_HEADING = range(15, 121)
_CAPITALS = 0.8
"""Least share of the longer words with a capital in a title whose capitals say nothing of names."""

_LINE = re.compile(r"[^\n]*\S[^\n]*")
_WITHIN = re.compile(r"\b(?=[a-z]++,? (((\w++)(?:[^\w\s]\w++)?+)(?:[^\w\s]\w++)*+))")
"""A word within a sentence: behind one without a capital. Of a compound also its first part and first two."""

_END = re.compile(r"[.!?][\"'”’)\]]*\s*\Z")


class QuestionTitle(Miner):
    """Titles and headings that are one clause, turned into a question of yes or no."""

    name: ClassVar[str] = "question_title"

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)
        auxiliaries, subjects, rests, negations = (
            language.of(self.name, key)
            for key in ("auxiliaries", "not_in_subjects", "not_in_rests", "negations")
        )
        perfect, participles, partial, adverbs, small = (
            frozenset(language.of(self.name, key))
            for key in ("perfect", "participles", "partial", "adverbs", "small")
        )
        self._perfect, self._participles, self._partial = perfect, participles, partial
        self._adverbs, self._small = adverbs, small
        contracted = language.of(self.name, "contracted")
        self._contracted = {form.replace("'", mark): contracted[form] for form in contracted for mark in "'’"}
        self._answers = language.of(self.name, "answers")
        self._auxiliaries = frozenset(auxiliaries)
        self._clause = re.compile(
            rf"(?P<subject>[^,;:?!]+?) (?P<auxiliary>{any_of([*auxiliaries, *self._contracted])})"
            rf"(?P<negation> (?:{any_of(negations)}))? (?P<rest>[^,;:?!]+)",
            re.IGNORECASE,
        )
        self._not_subject = re.compile(rf"\b(?:{any_of(subjects)})\b", re.IGNORECASE)
        # A second clause ("and new ones are needed") would be asked for too.
        self._not_rest = re.compile(
            rf"\b(?:{any_of(rests)})\b|\band .*\b(?:{any_of(auxiliaries)})\b", re.IGNORECASE
        )

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield a question for each title that is a clause."""
        text = document.text
        seen: set[str] = set()
        within: Counter[str] | None = None
        for start, end in self._titles(text):
            title = in_one_line(text[start:end])
            clause = self._clause.fullmatch(title.split(": ")[0].rstrip("."))
            fact = f"{self.name}:{fact_key(title)}"
            if not clause or fact in seen:
                continue
            # Once, if a title is a clause: searches for each word took a minute in 0.5 MB with 1,900 titles.
            within = _within_sentences(text) if within is None else within
            if found := self._question(clause, within):
                seen.add(fact)
                question, answer = found
                options = tuple(self._answers.values())
                fields = {"question": question}
                yield Item("question_title.yes_no", fact, answer, fields, options, answer, span=(start, end))

    def _titles(self, text: str) -> Iterator[Span]:
        """Yield the places of the first line and of headings.

        A heading stands before a paragraph. An entry of a list, or a line of wrapped text, does not.
        """
        lines = [found.span() for found in _LINE.finditer(text)]
        if lines and lines[0][1] - lines[0][0] in _TITLE:
            yield lines[0]
        for before, (start, end), after in zip(lines, lines[1:], lines[2:], strict=False):
            above, line, below = (text[slice(*each)].strip() for each in (before, (start, end), after))
            may_end = len(above) <= _HEADING[-1] // 2 or _END.search(above)
            follows = len(below) > len(line) and below[0].isupper() and _END.search(below)
            heads = len(line) in _HEADING and self._has_capitals(line) and not _END.search(line)
            if heads and may_end and follows:
                yield start, end

    def _question(self, found: re.Match[str], within: Mapping[str, int]) -> tuple[str, str] | None:
        """Return the question of a clause and its answer; None if it is no clause that is true by itself.

        Args:
            within: Times that the document has a word within sentences, by its form.
        """
        title = found[0]
        if title.isupper() or not title[0].isupper() or ". " in title:
            return None
        inner = self._in_sentence_case(title, within)
        subject, rest = inner[: found.end("subject")], inner[found.start("rest") :]
        auxiliary = found["auxiliary"].lower()
        denied = found["negation"] is not None or auxiliary in self._contracted
        words = rest.lower().split()
        fits = (
            len(subject.split()) in _SUBJECT
            and len(words) in _REST
            and not self._not_subject.search(subject)
            and not self._not_rest.search(rest)
            and self._check.stands_alone(title)
            and words[0] not in self._auxiliaries
            and words[-1] not in self._small
            and not (denied and words[0] in self._partial)
        )
        auxiliary = self._contracted.get(auxiliary, auxiliary)
        if not fits or (auxiliary in self._perfect and not self._begins_with_participle(words)):
            return None
        answer = self._answers["denied" if denied else "affirmed"]
        return f"{capital(auxiliary)} {subject} {rest}?", answer

    def _begins_with_participle(self, words: list[str]) -> bool:
        first = next((word for word in words if word not in self._adverbs), "")
        return first.endswith("ed") or first in self._participles

    def _in_sentence_case(self, title: str, within: Mapping[str, int]) -> str:
        """Return a title without the capitals that a title has and a sentence has not, names excepted."""
        changed = []
        capitals = self._has_capitals(title)
        for number, word in enumerate(title.split(" ")):
            plain = word[:1].isupper() and (word[1:].islower() or len(word) == 1)
            if plain and (capitals or number == 0) and not self._is_name(word, within):
                word = word.lower()
            changed.append(word)
        return " ".join(changed)

    def _has_capitals(self, title: str) -> bool:
        """Return True for the title of which most words, all but the small ones, have a capital."""
        words = [word for word in title.split(" ") if word.lower() not in self._small and not word.isupper()]
        return sum(word[:1].isupper() for word in words) >= _CAPITALS * len(words)

    def _is_name(self, word: str, within: Mapping[str, int]) -> bool:
        """Return True for a word that a text has with a capital within sentences, more often than without."""
        return word.lower() not in self._small and within.get(word, 0) > within.get(word.lower(), 0)


def _within_sentences(text: str) -> Counter[str]:
    """Count the words of a text behind words without a capital, by their form."""
    return Counter(form for found in _WITHIN.finditer(text) for form in set(found.groups()))
