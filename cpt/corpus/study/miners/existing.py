"""Mine questions that the text itself answers: "Q: ... A: ...", exercises, headings that are a question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import (
    SentenceCheck,
    Span,
    any_of,
    capital,
    in_one_line,
    paragraphs,
    sentences,
)

_QUESTION = range(15, 251)
_HEADING = 120
"""Most characters of a question that is a heading."""

_LONGEST = 300
"""Most characters of an answer; longer ones are cut at the end of a sentence."""

_NEAR = 20
"""Lines in which an answer is looked for: options and the lines of an answer."""

_OPTIONS = 3
"""Fewest different options. Two are mostly true and false: what they are asked on is then no question."""

_LINE = re.compile(r"[^\n]*\S[^\n]*")
_OPTION = re.compile(r"\s*\(?(?P<letter>[A-Ha-h])[.)]\s+(?P<text>\S.*)")
_LETTER = re.compile(r"\(?(?P<letter>[A-Ha-h])\)?(?:[.):]\s.*|[.)]?)\Z")
_ENDED = re.compile(r"[.!?][\"'”’)\]]*\Z")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answer, the options that it was chosen from, and the place of its end."""

    answer: str
    stop: int
    options: tuple[str, ...] = ()


class Existing(Miner):
    """Questions with their answers."""

    name: ClassVar[str] = "existing"

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)
        questions, answers, not_in_questions, not_answers, asks_what, says_what, yes_no, articles = (
            any_of(language.of(self.name, key))
            for key in (
                *("questions", "answers", "not_in_questions", "not_answers"),
                *("asks_what", "says_what", "yes_no", "articles"),
            )
        )
        self._question = re.compile(
            rf"\s*(?:\d{{1,3}}[.)]\s*)?(?:(?:{questions})\s?\d{{0,3}}\s*[.:)]\s*)?(?P<question>[^\W\d_].*?\?)"
            r"(?:\s+(?P<rest>\S.*))?",
            re.IGNORECASE,
        )
        self._answer = re.compile(rf"\s*(?:{answers})\s?\d{{0,3}}\s*:\s*(?P<answer>\S.*)", re.IGNORECASE)
        self._not_question = re.compile(rf"\b(?:{not_in_questions})\b", re.IGNORECASE)
        self._not_answer = re.compile(rf"(?:{not_answers})(?!\w)", re.IGNORECASE)
        self._article = rf"(?:(?:{articles}) )?"
        self._asks_what = re.compile(
            rf"(?:{asks_what}) {self._article}(?P<subject>[^,;:?]+)\?", re.IGNORECASE
        )
        self._says_what = rf"(?: \([^()]*\))? (?:{says_what})\b"
        self._says_yes = rf"(?:{yes_no}), "

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield every question that can be asked without the text."""
        text = document.text
        lines = [found.span() for found in _LINE.finditer(text)]
        seen: set[str] = set()
        for number, (start, end) in enumerate(lines):
            asked = self._question.fullmatch(text[start:end].rstrip())
            if not asked:
                continue
            question = capital(in_one_line(asked["question"]))
            fact = fact_key(question)
            if len(question) not in _QUESTION or fact in seen or not self._holds(question):
                continue
            near = lines[number : number + _NEAR]
            if asked["rest"]:
                same = self._answer.fullmatch(asked["rest"])
                found = self._chosen(same["answer"], {}, end) if same else None
            else:
                found = self._marked(text, near[1:]) or self._under_heading(text, question, near[1:])
            if found:
                seen.add(fact)
                fields, span = {"question": question}, (start, found.stop)
                yield Item("existing.answer", fact, found.answer, fields, found.options, span=span)

    def _holds(self, question: str) -> bool:
        return not self._not_question.search(question) and ". " not in question and not question.isupper()

    def _marked(self, text: str, lines: Sequence[Span]) -> _Answered | None:
        """Return the answer behind an answer's mark, with the options above it."""
        options: dict[str, str] = {}
        for number, (start, end) in enumerate(lines):
            line = text[start:end].rstrip()
            if found := self._answer.fullmatch(line):
                answer, stop = self._whole(text, found["answer"], lines[number:])
                return self._chosen(answer, options, stop)
            option = _OPTION.fullmatch(line)
            if not option or ord(option["letter"].lower()) - ord("a") != len(options):
                return None
            options[option["letter"].lower()] = in_one_line(option["text"])
        return None

    def _whole(self, text: str, answer: str, lines: Sequence[Span]) -> tuple[str, int]:
        """Return an answer with the lines that it goes on in, and the place of its end."""
        stop = lines[0][1]
        for start, end in lines[1:]:
            follows = text[stop:start].count("\n") == 1 and text[start : start + 1].islower()
            if _ENDED.search(answer) or not follows:
                break
            answer, stop = f"{answer} {text[start:end].strip()}", end
        return answer, stop

    def _chosen(self, answer: str, options: dict[str, str], stop: int) -> _Answered | None:
        """Return an answer, that of a letter in words; None if it says nothing, or if options are too few.

        Args:
            options: Options by their letters. Of equal ones the first counts.
        """
        lettered = _LETTER.match(answer)
        if options:
            different: dict[str, str] = {}
            for option in filter(None, options.values()):
                different.setdefault(option.casefold(), option)
            text = options.get(lettered["letter"].lower(), "") if lettered else ""
            fits = text and len(different) >= _OPTIONS
            return _Answered(different[text.casefold()], stop, tuple(different.values())) if fits else None
        shortened = self._shortened(in_one_line(answer))
        bare = lettered and len(answer) <= 2
        return (
            None if bare or not shortened or self._not_answer.match(shortened) else _Answered(shortened, stop)
        )

    def _shortened(self, answer: str) -> str:
        """Return as many sentences of an answer as fit; none if the first one is too long."""
        stop = max((end for _, end in sentences(answer, self.language) if end <= _LONGEST), default=0)
        return answer[:stop]

    def _under_heading(self, text: str, question: str, lines: Sequence[Span]) -> _Answered | None:
        """Return the sentence of the paragraph below a heading that answers it by its form."""
        asked = self._asks_what.fullmatch(question)
        if len(question) > _HEADING or not lines:
            return None
        begin = lines[0][0]
        says = rf"{self._article}{re.escape(asked['subject'])}{self._says_what}" if asked else self._says_yes
        for paragraph in paragraphs(text[slice(*lines[0])], self.language):
            for start, end in paragraph if asked else paragraph[:1]:
                sentence = in_one_line(text[begin + start : begin + end])
                told = re.match(says, sentence, re.IGNORECASE)
                if told and len(sentence) <= _LONGEST and self._check.is_sound(sentence):
                    return _Answered(sentence, begin + end)
        return None
