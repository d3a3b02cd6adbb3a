"""Leave out study items that a benchmark asks with the same answer, and count them by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cpt.corpus.examples import Examples
from cpt.corpus.study.language import Language, places
from evals.answered_questions import AnsweredQuestions, with_and_without_label

if TYPE_CHECKING:
    from cpt.corpus.study.items import Item
    from cpt.corpus.study.mining import Mined

SAME_QUESTION = "same_question"
"""Reason for which study items are left out."""

Unwanted = Callable[["Mined"], bool]
"""Function that returns True for an item that is left out; it is asked once about each."""


class BenchmarkQuestions:
    """The items of a source that were found among benchmark questions.

    Attributes:
        found: Number of items by task.
        examples: Examples of them.
    """

    def __init__(self, questions: AnsweredQuestions, language: Language, source: str) -> None:
        self.found: Counter[str] = Counter()
        self.examples = Examples(source)
        self._questions, self._language = questions, language

    def __call__(self, mined: Mined) -> bool:
        """Return True for an item that a benchmark asks with the same answer, and count it."""
        item = mined.item
        match = self._questions.find(questions_of(item, self._language), item.answer)
        if match is None:
            return False
        task, id = match
        self.found[task] += 1
        question = next(questions_of(item, self._language))
        self.examples.add(
            SAME_QUESTION, mined.document, f"{question}\n{item.answer}", detail=f"{task}, item {id}"
        )
        return True


def questions_of(item: Item, language: Language) -> Iterator[str]:
    """Yield the lines of an item's wordings that hold what it asks, with and without what labels them."""
    for wording in language.wordings(item.task, unseen=False):
        for line in wording.splitlines():
            for part in with_and_without_label(line):
                if (named := places(part)) and named <= item.fields.keys():
                    yield part.format(**item.fields)
