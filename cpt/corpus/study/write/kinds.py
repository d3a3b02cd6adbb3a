"""Write each kind of text about a passage, in steps: requests out, answers in, until nothing is left to ask.

A kind is a generator, so that the requests of many passages go out together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, fact_key
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.write import parsing
from cpt.corpus.study.write.filters import TEXT, Filters
from cpt.corpus.study.write.programs import ProgramError, numbered, parse_program, refined
from cpt.corpus.study.write.prompts import Passage, Prompts
from cpt.corpus.study.write.requests import Answer, Request
from cpt.corpus.study.write.settings import Kind, WriteSettings
from cpt.corpus.study.write.yields import Yields
from cpt.sources import READING

SOURCE = "study.written"
"""Name among the listed sources."""

Steps = Generator[Sequence[Request], Sequence[Answer], None]

_STRATEGY = range(12, 401)
"""Characters of a strategy: one sentence."""


@dataclass
class Desk:
    """Place where the kinds write: settings, prompts and filters, and the results so far.

    Attributes:
        documents: Texts for the part `reading`.
        items: Questions.
        facts: Key of the fact behind each answer, by document and answer: two questions of a document with
            the same answer ask for the same fact, and must not be divided between training and probe.
    """

    settings: WriteSettings
    prompts: Prompts
    filters: Filters
    yields: Yields
    documents: list[Document] = field(default_factory=list)
    items: list[Mined] = field(default_factory=list)
    facts: dict[tuple[str, str], str] = field(default_factory=dict)

    def text_of(self, answer: Answer) -> str:
        """Return the text of an answer, without an introduction and a sentence that is cut off."""
        text = parsing.without_introduction(parsing.cleaned(answer.text), self.filters.of("introductions"))
        return parsing.whole_sentences(text) if answer.cut else text

    def keep(self, kind: Kind, passage: Passage, text: str, number: int = 0) -> None:
        """Add a text to the reading documents."""
        self.yields.use(kind, text)
        id = f"written:{kind}:{passage.document}:{passage.number}.{number}"
        self.documents.append(Document(id, text, part=READING, source=SOURCE))


def rephrase(passage: Passage, desk: Desk) -> Steps:
    """Write the passage again in another form (WRAP, arXiv 2401.16380)."""
    (answer,) = yield [desk.prompts.rephrase(passage)]
    _take("rephrase", passage, answer, desk, rephrased=True)


def strategies(passage: Passage, desk: Desk) -> Steps:
    """Think of strategies to learn the passage, then apply each (Active Reading, arXiv 2508.09494).

    Exercises ask questions, so a passage with a fact that is only probed has none.
    """
    if not passage.free:
        return None
    (answer,) = yield [desk.prompts.strategies(passage)]
    text = "" if answer.failed else desk.text_of(answer)
    if desk.filters.declines(text):
        return desk.yields.drop("strategies", "declined")
    found = [entry for entry in dict.fromkeys(parsing.listed(text)) if len(entry) in _STRATEGY]
    if not found:
        return desk.yields.drop("strategies", answer.failed or "no_strategies", answer.detail)
    chosen = found[: desk.settings.strategies]
    answers = yield [desk.prompts.apply(passage, strategy) for strategy in chosen]
    for number, each in enumerate(answers):
        _take("strategies", passage, each, desk, number)
    return None


def _take(
    kind: Kind, passage: Passage, answer: Answer, desk: Desk, number: int = 0, *, rephrased: bool = False
) -> None:
    """Keep the text of an answer if it can be used."""
    text = "" if answer.failed else desk.text_of(answer)
    problem = answer.failed or desk.filters.text_problem(text, passage.text, rephrased=rephrased)
    if problem:
        desk.yields.drop(kind, problem, answer.detail)
    else:
        desk.keep(kind, passage, text, number)


def questions(passage: Passage, desk: Desk) -> Steps:
    """Ask for questions with answers, and keep those that can be asked without the passage and are right."""
    (answer,) = yield [desk.prompts.questions(passage)]
    found = [] if answer.failed else list(parsing.pairs(parsing.cleaned(answer.text)))
    if answer.cut:
        del found[-1:]
    if not found:
        return desk.yields.drop("questions", answer.failed or "no_questions", answer.detail)
    checked, doubtful = [], []
    for question, said in found[: desk.settings.questions]:
        if problem := desk.filters.question_problem(question, said):
            desk.yields.drop("questions", problem)
        elif desk.settings.check == "none" or desk.filters.holds(passage.text, said):
            checked.append((question, said))
        elif desk.settings.check == "round-trip":
            doubtful.append((question, said))
        else:
            desk.yields.drop("questions", "answer_not_in_passage")
    if doubtful:
        again = yield [desk.prompts.answer(passage, question) for question, _ in doubtful]
        for (question, said), other in zip(doubtful, again, strict=True):
            if other.failed or not desk.filters.agree(said, desk.text_of(other)):
                desk.yields.drop("questions", other.failed or "other_answer_in_round_trip", other.detail)
            else:
                checked.append((question, said))
    for question, said in checked:
        _ask(question, said, passage, desk)
    return None


def _ask(question: str, answer: str, passage: Passage, desk: Desk) -> None:
    """Keep a question that is like no other."""
    if desk.filters.question_problem(question, answer):  # one of the same passage may be like it
        return desk.yields.drop("questions", "duplicate")
    desk.filters.use(question)
    desk.yields.use("questions", f"{question} {answer}")
    place = (passage.document, " ".join(desk.filters.words(answer)))
    fact = desk.facts.setdefault(place, fact_key(question))
    task = "write.number" if any(character.isdigit() for character in answer) else "write.text"
    item = Item(task, fact, answer, {"question": question}, span=passage.span)
    desk.items.append(Mined(item, passage.document, "write", True))
    return None


def refine(passage: Passage, desk: Desk) -> Steps:
    """Ask for a program that cleans the passage, and keep its result where it differs (ProX)."""
    (answer,) = yield [desk.prompts.refine(passage, numbered(passage.text))]
    if answer.failed or answer.cut:
        return desk.yields.drop("refine", answer.failed or "no_program", answer.detail)
    try:
        program = parse_program(parsing.cleaned(answer.text))
        text = refined(passage.text, program)
    except ProgramError as error:
        return desk.yields.drop("refine", error.reason, str(error))
    if not text:
        return desk.yields.use("refine", outcome="dropped")
    if text == passage.text:
        return desk.yields.use("refine", outcome="unchanged")
    if len(text) < TEXT:
        return desk.yields.drop("refine", "too_short")
    return desk.keep("refine", passage, text)


MAKERS: Mapping[Kind, Callable[[Passage, Desk], Steps]] = {
    "questions": questions,
    "rephrase": rephrase,
    "strategies": strategies,
    "refine": refine,
}
