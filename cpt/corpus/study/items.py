"""Define what miners find in a document: questions with their answers, as items of facts."""

from __future__ import annotations

import hashlib
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cpt.corpus.documents import Document
    from cpt.corpus.study.language import Language


@dataclass(frozen=True, slots=True)
class Item:
    """A question that a document answers, before it has its words.

    Attributes:
        task: Key of its wordings in the language's files: `<miner>.<task>` (glossary.define).
        fact: Key of the fact that it asks for. All items of a fact are trained on, or none are.
        fields: Texts for the places of the wordings, by name ({term}).
        answer: Right answer.
        options: Texts to choose from, the answer among them. Wordings with {options} show them; recall probes
            take their wrong answers from them, or else from other items of the task.
        label: Answer of a task whose answers are balanced (yes, no); empty for all others.
        reverse: Whether it asks in the direction that the document does not state (definition to term).
        span: Place of the fact in the document's text, (start, end) in characters.
        hidden: Place of the answer, if it is left out of the passage that the item is asked on; else None.
    """

    task: str
    fact: str
    answer: str
    fields: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    label: str = ""
    reverse: bool = False
    span: tuple[int, int] = (0, 0)
    hidden: tuple[int, int] | None = None


class Miner(ABC):
    """A rule that finds items in documents of a language. It is deterministic and needs no model.

    Attributes:
        name: Name in recipes, and the first half of its tasks' keys.
        closed: Whether its questions can be answered without the document in sight. Only such items are asked
            in documents of their own, are split into trained and probed facts, and become recall probes.
    """

    name: ClassVar[str]
    closed: ClassVar[bool] = True

    def __init__(self, language: Language) -> None:
        self.language = language

    def learn(self, documents: Iterable[Document]) -> None:  # noqa: B027
        """Take what it needs to know of all documents before it mines one; by default nothing."""

    @abstractmethod
    def mine(self, document: Document) -> Iterator[Item]:
        """Yield the items of a document in the order of the text."""


def chance(*key: object) -> random.Random:
    """Return a random generator that is a function of its keys: the same on every machine, in any order."""
    hashed = hashlib.blake2b("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=8)
    return random.Random(int.from_bytes(hashed.digest(), "little"))


_BRACKETS = re.compile(r"\s*\([^()]*\)")


def fact_key(term: str) -> str:
    """Return the key of what a term means: without case, white space and what it has in brackets.

    "Transient ischemic attack (TIA)" in one document is not probed while "transient ischemic attack" in
    another is trained on.
    """
    plain = term.casefold()
    return " ".join((_BRACKETS.sub("", plain).strip() or plain).split())


def is_trained(fact: str, share: float, seed: int) -> bool:
    """Return True for a fact whose questions are trained on: a share of all, by a hash of (seed, fact)."""
    return chance("trained", seed, fact).random() < share
