"""Find the benchmark item that asks a question with the same answer, however short both are.

`evals.item_search` finds a long stretch of an item anywhere in a text. Here a question and its answer are
compared as wholes, by the same words, so that items of fewer words than an n-gram are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from evals.overlap import words

_COLON = re.compile("[:\uff1a]")


class AnsweredQuestions:
    """The questions of benchmark items with their answers, as words without case and punctuation."""

    def __init__(self, tasks: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Index the items.

        Args:
            tasks: Texts of the items by id, by task: prompt and right answers, or whatever texts an item
                has. Each line of a text is a question of which every other text is an answer.
        """
        self._by_answer: dict[str, dict[str, tuple[str, str]]] = {}
        for task, items in tasks.items():
            for id, texts in items.items():
                for question, answer in _pairs(texts):
                    self._by_answer.setdefault(answer, {}).setdefault(question, (task, id))

    def find(self, questions: Iterable[str], answer: str) -> tuple[str, str] | None:
        """Return task and id of an item that asks one of the questions with this answer."""
        asked = self._by_answer.get(_plain(answer))
        if asked is None:
            return None
        return next((asked[key] for key in map(_plain, questions) if key in asked), None)


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the questions of an item with their answers."""
    for text in texts:
        lines = text.splitlines()
        questions = {_plain(part) for line in lines for part in with_and_without_label(line)} - {""}
        for answer in {_plain(other) for other in texts if other is not text} - {""}:
            for each in (answer, *_options(answer, lines)):
                yield from ((question, each) for question in questions)


def with_and_without_label(line: str) -> tuple[str, ...]:
    """Return a line, and what it has behind its first colon ("Question: ...") if it has one."""
    return line, *_COLON.split(line, maxsplit=1)[1:]


def _options(answer: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield the options that an answer of one letter stands for, from lines that begin with it."""
    if len(answer) == 1:
        options = (_plain(line).partition(" ") for line in lines)
        yield from (rest for letter, _, rest in options if letter == answer and rest)


def _plain(text: str) -> str:
    return " ".join(words(text))
