"""Mine paragraphs to be gone on with: the text up to a sentence's end, and what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, Miner, chance, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import SentenceCheck, in_one_line, paragraphs

_SENTENCES = 4
"""Fewest sentences of a paragraph."""

_BEFORE = 2
"""Fewest sentences in front of the cut."""

_BEGINNING = 1_200
"""Most characters in front of the cut."""

_LONGEST = 300
"""Most characters of what follows."""


class Completion(Miner):
    """A cut between sentences of a paragraph of four or more."""

    name: ClassVar[str] = "completion"
    closed: ClassVar[bool] = False

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._check = SentenceCheck(language)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield an item for each paragraph that is long enough."""
        for paragraph in paragraphs(document.text, self.language):
            if len(paragraph) < _SENTENCES:
                continue
            parts = [in_one_line(document.text[start:end]) for start, end in paragraph]
            cut = chance(self.name, document.id, paragraph[0][0]).randrange(_BEFORE, len(parts))
            beginning = " ".join(parts[:cut])
            stop = cut
            while stop < len(parts) and len(" ".join(parts[cut : stop + 1])) <= _LONGEST:
                stop += 1
            fits = stop > cut and len(beginning) <= _BEGINNING and self._check.stands_alone(parts[0])
            if fits and all(map(self._check.is_sound, parts[:stop])):
                end = paragraph[stop - 1][1]
                yield Item(
                    "completion.continue",
                    f"completion:{fact_key(parts[0])}",
                    " ".join(parts[cut:stop]),
                    {"beginning": beginning},
                    span=(paragraph[0][0], end),
                    hidden=(paragraph[cut][0], end),
                )
