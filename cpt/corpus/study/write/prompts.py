"""Make requests of a language's prompts and a passage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from cpt.corpus.documents import Document
from cpt.corpus.study.items import chance
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import passages
from cpt.corpus.study.write.requests import Request
from cpt.corpus.study.write.settings import WriteSettings

SHORTEST = 200
"""Least characters of a passage: a shorter one holds a fact or two, which the document says as well."""

_LONGEST = 2
"""Largest length of a passage, in passages: a sentence that is longer is no prose."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document that is written about.

    Attributes:
        document: Id of the document.
        number: Place among the document's passages.
        span: Place in the document's text.
        free: Whether texts may ask questions about it: it names no fact that is only probed.
    """

    document: str
    number: int
    text: str
    span: tuple[int, int]
    free: bool = True

    @property
    def digest(self) -> str:
        """Return a text that tells the passage's text from all others."""
        return blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def passages_of(document: Document, size: int, language: Language) -> Iterator[Passage]:
    """Yield the passages of a document that can be written about."""
    for number, (begin, end) in enumerate(passages(document.text, size, language)):
        text = document.text[begin:end].strip()
        if SHORTEST <= len(text) <= _LONGEST * size:
            yield Passage(document.id, number, text, (begin, end))


class Prompts:
    """The prompts of a language, with the numbers of the settings and seeds of their own."""

    def __init__(self, language: Language, settings: WriteSettings, seed: int) -> None:
        self._prompts = language.of("write", "prompts")
        self._forms = language.of("write", "forms")
        self._settings, self._seed = settings, seed

    def questions(self, passage: Passage) -> Request:
        """Ask for questions with their answers."""
        number = self._settings.questions
        return self._request("questions", passage, most=64 + 80 * number, number=str(number))

    def rephrase(self, passage: Passage) -> Request:
        """Ask for the same content in a form that is drawn, which asks questions only where they are free."""
        forms = [each["form"] for each in self._forms if passage.free or not each.get("asks", False)]
        form = chance("form", self._seed, passage.digest).choice(forms)
        return self._request("rephrase", passage, most=_room(passage), form=form)

    def strategies(self, passage: Passage) -> Request:
        """Ask for exercises that suit the passage."""
        number = self._settings.strategies
        return self._request("strategies", passage, most=64 + 80 * number, number=str(number))

    def apply(self, passage: Passage, strategy: str) -> Request:
        """Ask to do an exercise on the passage."""
        return self._request("apply", passage, most=_room(passage), strategy=strategy)

    def refine(self, passage: Passage, numbered: str) -> Request:
        """Ask for a program that cleans the passage.

        Args:
            numbered: Text of the passage with numbers in front of its lines.
        """
        return self._request("refine", passage, most=512, text=numbered)

    def answer(self, passage: Passage, question: str) -> Request:
        """Ask a question on the passage."""
        return self._request("answer", passage, most=96, question=question)

    def _request(self, name: str, passage: Passage, most: int, text: str = "", **fields: str) -> Request:
        digest = passage.digest
        values = {"passage": text or passage.text, "mark": f"text {digest[:8]}", **fields}
        chat, plain = (self._prompts[name][kind].format(**values).strip() for kind in ("chat", "plain"))
        seed = chance("write", self._seed, name, digest, *fields.values()).getrandbits(31)
        return Request(chat, f"{plain}\n", most, digest, seed)


def _room(passage: Passage) -> int:
    """Return the most tokens of a text of about a passage's length, in any script."""
    return 256 + len(passage.text) // 2
