"""Decide which of a model's texts and questions can be used, and say why others cannot."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from cpt.corpus.study.language import Language

_WORD = re.compile(r"\w+(?:['’]\w+)*")  # noqa: RUF001 - an apostrophe of texts
_NOT_DIGITS = re.compile("(?<=\\d)[, \u00a0\u202f](?=\\d{3}(?!\\d))")

QUESTION, ANSWER = range(12, 301), range(1, 201)
"""Characters of questions and answers. Longer answers are paragraphs, which nobody recalls word by word."""

TEXT = 80
"""Least characters of a text."""

_SHARE = (0.25, 3.0)
"""Least and largest length of a rephrased passage, relative to it."""

_COPIED = 0.5
"""Largest share of a text's runs of eight words that stand in the passage too; with more it is a copy."""

_RUN = 8
_REPETITIVE = 5.0
"""Compression ratio from which on a text repeats itself. Prose of 2,000 characters has about 2, a list 3."""

_ALIKE = 0.75
"""Least share of common words of two questions that are the same."""

_GRAM = 3
_FREQUENT = 64
"""Number of questions with an n-gram from which on it tells none of them from the others."""

_AGAIN = 0.8
"""Least agreement of two answers, as F1 of their words."""


class Filters:
    """The filters, with a language's words and the questions that are used."""

    def __init__(self, language: Language) -> None:
        self._language, self._used = language, _Questions()
        self._articles = frozenset(self.of("articles"))

    def of(self, key: str) -> Any:
        """Return a list of words of the language."""
        return self._language.of("write", key)

    def words(self, text: str) -> list[str]:
        """Return the words of a text without case, marks and articles, and numbers without commas."""
        plain = _NOT_DIGITS.sub("", unicodedata.normalize("NFKC", text).casefold())
        return [word for word in _WORD.findall(plain) if word not in self._articles]

    def holds(self, text: str, part: str) -> bool:
        """Return True if the words of a part stand in a text, one after the other."""
        wanted = self.words(part)
        return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(self.words(text))} "

    def declines(self, text: str) -> bool:
        """Return True if a text begins as one in which a model speaks about itself."""
        return text.casefold().startswith(tuple(self.of("refusals")))

    def text_problem(self, text: str, passage: str, *, rephrased: bool) -> str:
        """Return why a text of the model cannot be used; empty if it can.

        Args:
            rephrased: Whether it says all of the passage again, and so is about as long.
        """
        if self.declines(text):
            return "declined"
        least, most = _SHARE if rephrased else (0.0, _SHARE[1])
        if len(text) < max(TEXT, least * len(passage)):
            return "too_short"
        if len(text) > most * max(len(passage), 1_000):
            return "too_long"
        if compression(text) >= _REPETITIVE:
            return "repetitive"
        return "copied" if self._copied(text, passage) > _COPIED else ""

    def _copied(self, text: str, passage: str) -> float:
        there = set(_grams(self.words(passage), _RUN))
        runs = list(_grams(self.words(text), _RUN))
        return sum(run in there for run in runs) / len(runs) if runs else 0.0

    def question_problem(self, question: str, answer: str) -> str:
        """Return why a question is none that can be asked without the passage; empty if it is one."""
        plain = f" {' '.join(_WORD.findall(question.casefold()))} "
        if not question.endswith(("?", "？")):  # noqa: RUF001 - a mark of texts
            return "no_question"
        if len(question) not in QUESTION or len(answer) not in ANSWER:
            return "length"
        if answer.strip(" .").casefold() in self.of("no_words"):
            return "yes_or_no"
        if any(f" {phrase} " in plain for phrase in self.of("refers")):
            return "refers_to_the_text"
        if not self.words(answer) or self.holds(question, answer):
            return "answer_in_question"
        return "duplicate" if self._used.like(self.words(question)) else ""

    def use(self, question: str) -> None:
        """Note a question, so that none like it is used again."""
        self._used.add(self.words(question))

    def agree(self, answer: str, other: str) -> bool:
        """Return True if two answers say the same, by their words."""
        one, two = Counter(self.words(answer)), Counter(self.words(other))
        common = (one & two).total()
        return common > 0 and 2 * common / (one.total() + two.total()) >= _AGAIN


class _Questions:
    """Questions that are used, found by their n-grams of words.

    One that has a word of its own on each side asks for something else: the same of another river.
    """

    def __init__(self) -> None:
        self._words: list[frozenset[int]] = []
        self._with: dict[int, list[int]] = defaultdict(list)

    def add(self, words: Sequence[str]) -> None:
        """Add a question."""
        for gram in _numbers(_grams(["", *words, ""], _GRAM)):
            if len(self._with[gram]) < _FREQUENT:
                self._with[gram].append(len(self._words))
        self._words.append(_numbers(words))

    def like(self, words: Sequence[str]) -> bool:
        """Return True if a question that is used has the same words, but for some more or fewer."""
        mine = _numbers(words)
        near = {at for gram in _numbers(_grams(["", *words, ""], _GRAM)) for at in self._with.get(gram, ())}
        return any(
            (mine <= self._words[at] or mine >= self._words[at])
            and len(mine & self._words[at]) >= _ALIKE * len(mine | self._words[at])
            for at in near
        )


def _numbers(texts: Iterable[str]) -> frozenset[int]:
    """Return hashes of texts, which take less memory."""
    return frozenset(
        int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        for text in texts
    )


def _grams(words: Sequence[str], size: int) -> Iterator[str]:
    return (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))


def compression(text: str) -> float:
    """Return how many times shorter a text is when compressed: the more, the less diverse it is."""
    data = text.encode("utf-8", "replace")
    return len(data) / max(len(zlib.compress(data, 6)), 1)
