"""Mine paragraphs to be put in order: three to five sentences that follow each other, shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, chance, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import SentenceCheck, in_one_line, paragraphs

_SENTENCES = (3, 5)
_LONGEST = 900
"""Most characters of all the sentences together."""

_SHORTEST = 30
"""Fewest characters of a sentence."""


class Order(Miner):
    """The first sentences of a paragraph, if they show the order that they belong in."""

    name: ClassVar[str] = "order"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield an item for each paragraph that begins with a sentence on its own."""
        for paragraph in paragraphs(document.text, self.language):
            rolled = chance(self.name, document.id, paragraph[0][0])
            spans = paragraph[: rolled.randint(*_SENTENCES)]
            ordered = [in_one_line(document.text[start:end]) for start, end in spans]
            if not self._fits(ordered):
                continue
            shuffled = list(ordered)
            while shuffled == ordered:
                rolled.shuffle(shuffled)
            span = spans[0][0], spans[-1][1]
            yield Item(
                "order.order",
                f"order:{fact_key(ordered[0])}",
                " ".join(ordered),
                {"sentences": "\n".join(f"- {sentence}" for sentence in shuffled)},
                span=span,
                hidden=span,
            )

    def _fits(self, ordered: Sequence[str]) -> bool:
        """Return True if the first sentence stands alone, and at least half of the others do not.

        Sentences that all stand alone could stand in any order.
        """
        alone, *others = (self._check.stands_alone(sentence) for sentence in ordered)
        return (
            len(others) + 1 >= _SENTENCES[0]
            and alone
            and sum(others) * 2 <= len(others)
            and len(set(ordered)) == len(ordered)
            and sum(map(len, ordered)) <= _LONGEST
            and min(map(len, ordered)) >= _SHORTEST
            and all(map(self._check.is_sound, ordered))
        )
