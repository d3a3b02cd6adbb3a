"""Write closed questions: some of different facts in a document, no passage, loss on the answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import Item, chance
from cpt.corpus.study.language import Language, Worded, worded
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.settings import MiningSettings
from cpt.sources import QUESTIONS

SOURCE = "study.questions"
"""Name among the listed sources."""

MOST_IN_A_DOCUMENT = 5
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is trained on: an item in words."""

    fact: str
    item: Item
    question: Worded


def ask(
    mined: Iterable[Mined], facts: Facts, language: Language, settings: MiningSettings, seed: int
) -> list[Asked]:
    """Return the closed questions on the trained facts, in an order of their own.

    Every fact is asked in up to `forms` questions: its items in turn, each in another wording. The order of
    the items changes nothing.
    """
    items: dict[str, list[Item]] = {}
    for each in sorted(mined, key=lambda each: each.key):
        if each.closed and facts.may_train(each):
            items.setdefault(facts.of(each.item.fact), []).append(each.item)
    asked = [
        Asked(fact, item, question)
        for fact in sorted(items)
        for item, question in _forms(fact, items[fact], language, settings.forms, seed)
    ]
    chance("order", seed).shuffle(asked)
    return asked


def question_documents(asked: Sequence[Asked], seed: int) -> Iterator[Document]:
    """Yield documents of some questions each."""
    for number, group in enumerate(_groups(asked, seed)):
        yield _document(f"questions:{number}", group)


def _forms(
    fact: str, items: Sequence[Item], language: Language, most: int, seed: int
) -> Iterator[tuple[Item, Worded]]:
    """Yield the questions of a fact with their items: no two of the same task in the same words."""
    rolled = chance("forms", seed, fact)
    ways = []
    for item in items:
        wordings = list(language.wordings(item.task, unseen=False))
        rolled.shuffle(wordings)
        ways.append((item, wordings))
    rolled.shuffle(ways)
    seen: set[Worded] = set()
    while ways and len(seen) < most:
        item, wordings = ways.pop(0)
        question = worded(item, wordings.pop(), f"{seed}:{fact}:{len(seen)}")
        if wordings:
            ways.append((item, wordings))
        if question not in seen:
            seen.add(question)
            yield item, question


def _groups(asked: Sequence[Asked], seed: int) -> Iterator[list[Worded]]:
    """Divide questions into groups of 1 to 5 with no fact twice."""
    rolled = chance("groups", seed)
    waiting = list(asked)[::-1]
    while waiting:
        size = rolled.randint(1, MOST_IN_A_DOCUMENT)
        group: dict[str, Worded] = {}
        while waiting and len(group) < size and waiting[-1].fact not in group:
            taken = waiting.pop()
            group[taken.fact] = taken.question
        yield list(group.values())


def _document(id: str, questions: Sequence[Worded]) -> Document:
    """Return questions and answers as a document; what follows an answer is learnt with it, as its end."""
    text, weights = "", []
    for question in questions:
        text += question.prompt
        weights.append((len(text), 0.0))
        text += f" {question.answer}{_BETWEEN}"
        weights.append((len(text), 1.0))
    text = text.removesuffix(_BETWEEN)
    weights[-1] = (len(text), 1.0)
    return Document(id, text, part=QUESTIONS, source=SOURCE, loss_weights=tuple(weights))


def prompts_and_answers(document: Document) -> Iterator[tuple[str, str]]:
    """Yield the questions of a document, each with its answer."""
    begin, prompt = 0, ""
    for end, weight in document.loss_weights:
        if weight:
            yield prompt, document.text[begin:end].strip()
        else:
            prompt = document.text[begin:end]
        begin = end
