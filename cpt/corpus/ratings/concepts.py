"""Balance documents by the terms in them, so that frequent concepts do not crowd out the many rare ones.

MetaCLIP (Xu et al. 2024, arXiv 2309.16671, section 3.3): a term that `count` documents hold samples each of
them with probability min(1, cap / count), and a document stays if any of its terms samples it. With u the
random number of a document and a term, it stays if u · count < cap for one of them. The smallest u · count of
a document is therefore the cap from which on it stays: a rating, by which a number of tokens can be selected
without choosing a cap first.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cpt.corpus.extras import ExtraSettings

_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Concept:
    """A term with its other spellings and synonyms, which count as the term itself."""

    name: str
    forms: tuple[str, ...]


class ConceptSettings(ExtraSettings):
    """Settings of the balance of concepts."""

    libraries: ClassVar[dict[str, str]] = {"ahocorasick_rs": "concepts"}

    kind: Literal["concepts"] = "concepts"
    cap: int | None = Field(
        default=None,
        ge=1,
        description="Number of documents that each term samples at most (in expectation); by default the "
        "number that gives `select.tokens`.",
    )
    unmatched: Literal["drop", "keep"] = Field(
        default="drop",
        description="What is done about documents without any term: dropped and counted as `no_term`, or "
        "kept before all others.",
    )
    whole_words: bool = Field(
        default=True,
        description="Find terms only as whole words, whatever is between them; false for scripts without "
        "spaces between words.",
    )
    ignore_case: bool = Field(default=True, description="Find terms in small and capital letters alike.")


class Matcher:
    """A finder of all concepts in a text at once (Aho and Corasick 1975)."""

    def __init__(self, concepts: Sequence[Concept], *, whole_words: bool, ignore_case: bool) -> None:
        """Build the automaton.

        Raises:
            ValueError: No term has a letter or digit.
        """
        from ahocorasick_rs import AhoCorasick

        self._whole_words, self._ignore_case = whole_words, ignore_case
        owners: dict[str, list[int]] = {}
        for number, concept in enumerate(concepts):
            for form in dict.fromkeys(map(self._normal, concept.forms)):
                if form.strip():
                    owners.setdefault(form, []).append(number)
        if not owners:
            raise ValueError("no term has a letter or a digit")
        self._automaton = AhoCorasick(list(owners))
        self._owners = list(owners.values())

    def _normal(self, text: str) -> str:
        """Return the form in which terms and texts are compared; words have one space on each side."""
        text = unicodedata.normalize("NFC", text)
        if self._ignore_case:
            text = text.casefold()
        return f" {_NO_WORD.sub(' ', text).strip()} " if self._whole_words else text.strip()

    def find(self, text: str) -> list[int]:
        """Return the numbers of the concepts in a text, each once, ascending."""
        matches = self._automaton.find_matches_as_indexes(self._normal(text), overlapping=True)
        found = {form for form, _, _ in matches}
        return sorted({number for form in found for number in self._owners[form]})


class Matches:
    """The concepts of all documents, each with the random number of the document and the term.

    Memory: 12 bytes for each pair of a document and a term in it.
    """

    def __init__(self, concepts: Sequence[Concept], seed: int) -> None:
        self._names = [concept.name.encode() for concept in concepts]
        self._salt = seed.to_bytes(16, "little", signed=True)
        self._ends = array("q")
        self._concepts = array("i")
        self._chances = array("d")

    def add(self, key: bytes, concepts: Iterable[int]) -> None:
        """Take the next document: its digest, and the numbers of the concepts in it."""
        for number in concepts:
            hashed = hashlib.blake2b(
                self._names[number], digest_size=8, key=key, salt=self._salt, person=b"concepts"
            ).digest()
            self._concepts.append(number)
            self._chances.append(int.from_bytes(hashed, "little") / 2**64)
        self._ends.append(len(self._concepts))

    def counts(self, kept: np.ndarray | None = None) -> np.ndarray:
        """Return the number of documents that hold each concept: int64 (concepts,).

        Args:
            kept: bool (documents,), documents that count; all if None.
        """
        numbers = np.asarray(self._concepts, dtype=np.int64)
        if kept is not None:
            numbers = numbers[np.repeat(kept, self._lengths())]
        return np.bincount(numbers, minlength=len(self._names))

    def smallest_caps(self) -> np.ndarray:
        """Return the cap above which each document stays: float64 (documents,); infinite without a term."""
        lengths = self._lengths()
        needed = np.asarray(self._chances) * self.counts()[np.asarray(self._concepts, dtype=np.int64)]
        result = np.full(len(lengths), np.inf)
        some = np.flatnonzero(lengths)
        if len(some):
            starts = np.asarray(self._ends, dtype=np.int64)[some] - lengths[some]
            result[some] = np.minimum.reduceat(needed, starts)
        return result

    def _lengths(self) -> np.ndarray:
        return np.diff(np.asarray(self._ends, dtype=np.int64), prepend=0)


_SHOWN = 12
"""Number of the most frequent terms that are reported by name."""


def balance_facts(
    concepts: Sequence[Concept], matches: Matches, kept: np.ndarray, cap: float
) -> dict[str, Any]:
    """Return how many terms were found, and the occurrences in head and tail before and after.

    An occurrence is a pair of a document and a term in it. Terms in more documents than the cap are the head,
    all others that occur are the tail.

    Args:
        kept: bool (documents,), documents that are selected.
    """
    before, after = matches.counts(), matches.counts(kept)
    head = before > cap
    tail = (before > 0) & ~head

    def occurrences(these: np.ndarray) -> dict[str, int]:
        return {
            "terms": int(these.sum()),
            "before": int(before[these].sum()),
            "after": int(after[these].sum()),
        }

    largest = sorted(map(int, np.flatnonzero(before)), key=lambda at: (-before[at], concepts[at].name))[
        :_SHOWN
    ]
    return {
        "terms": len(concepts),
        "found": int((before > 0).sum()),
        "cap": float(cap),
        "head": occurrences(head),
        "tail": occurrences(tail),
        "largest": [
            {"term": concepts[at].name, "before": int(before[at]), "after": int(after[at])} for at in largest
        ],
    }
