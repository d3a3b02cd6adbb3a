"""Find the benchmark items of which a document has n-grams, and the places.

`evals.overlap` asks of every item whether a text has it; this asks the same of every document of the text, by
the same words and n-grams. N-grams that most items of a task share are ignored there and here: they belong to
the prompt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.models.encoding import blocks
from evals.overlap import WordIndex, belongs_to_prompt, hashes, runs, words

_TOKEN = re.compile(r"\S+")


@dataclass(frozen=True)
class Match:
    """An item of which a document has n-grams.

    Attributes:
        words: Number of words of the longest stretch of its n-grams.
        begin: Index of the character at which that stretch begins.
        end: Index after its last character.
    """

    task: str
    item: str
    words: int
    begin: int
    end: int


class ItemSearch:
    """A search for the n-grams of benchmark items in documents, one at a time.

    Attributes:
        n: Number of words of an n-gram.
        short: Number of items of fewer words, which cannot be found, by task.
        items: Number of items by task.
    """

    def __init__(
        self, tasks: Mapping[str, Mapping[str, str]], n: int, *, without_prompt: frozenset[str] = frozenset()
    ) -> None:
        """Index the items.

        Args:
            tasks: Texts of the items by id, by task.
            without_prompt: Tasks whose texts have no prompt, so that what they share counts.
        """
        self.n = n
        self.items = {task: len(items) for task, items in tasks.items()}
        self.short: dict[str, int] = {}
        self._names = [(task, id) for task, items in tasks.items() for id in items]
        self._index = WordIndex()
        grams, owners, first = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
        for task, items in tasks.items():
            each = [np.unique(hashes(self._index.encode(text), n)) for text in items.values()]
            self.short[task] = sum(not len(found) for found in each)
            theirs = np.concatenate([grams[0], *each])
            counted = np.ones(len(theirs), dtype=bool)
            if task not in without_prompt:
                counted = ~_of_prompt(theirs, len(items))
            grams.append(theirs[counted])
            owners.append(np.repeat(np.arange(first, first + len(each)), list(map(len, each)))[counted])
            first += len(each)
        together = np.concatenate(grams)
        order = np.argsort(together, kind="stable")
        self._grams, self._owners = together[order], np.concatenate(owners)[order]

    def contaminated(self, texts: Sequence[str]) -> list[int]:
        """Return the places of the texts that have an n-gram of an item."""
        numbers = [np.append(self._index.known(text), np.uint64(0)) for text in texts]
        hits, _ = self._hits(np.concatenate([np.zeros(0, np.uint64), *numbers]))
        ends = np.cumsum([len(each) for each in numbers])
        return np.unique(np.searchsorted(ends, hits, side="right")).tolist()

    def matches(self, text: str) -> tuple[list[tuple[int, int]], list[Match]]:
        """Find items in a document.

        Returns:
            The stretches of characters that n-grams of any item cover, in order, and the items.
        """
        places, grams = self._hits(self._index.known(text))
        if not len(places):
            return [], []
        begins, ends = _word_spans(text)
        stretches = [
            (int(begins[place]), int(ends[place + length - 1]))
            for place, length in runs(places.tolist(), self.n)
        ]
        by_owner: dict[int, list[int]] = defaultdict(list)
        for place, gram in zip(places.tolist(), grams, strict=True):
            first, last = np.searchsorted(self._grams, gram), np.searchsorted(self._grams, gram, side="right")
            for owner in self._owners[first:last].tolist():
                by_owner[owner].append(place)
        return stretches, [self._match(owner, found, begins, ends) for owner, found in by_owner.items()]

    def _match(self, owner: int, places: list[int], begins: np.ndarray, ends: np.ndarray) -> Match:
        place, length = max(runs(places, self.n), key=lambda run: run[1])
        task, item = self._names[owner]
        return Match(task, item, length, int(begins[place]), int(ends[place + length - 1]))

    def _hits(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of words at which an item's n-gram begins, and the n-grams' hashes."""
        there = hashes(numbers, self.n)
        places = np.flatnonzero(there)
        if not len(self._grams):
            return places[:0], there[:0]
        at = np.searchsorted(self._grams, there[places])
        at[at == len(self._grams)] = 0
        hits = places[self._grams[at] == there[places]]
        return hits, there[hits]


def _of_prompt(grams: np.ndarray, items: int) -> np.ndarray:
    """Return True for n-grams that most items share: bool [n-grams]. Each item has an n-gram once."""
    _, group, holders = np.unique(grams, return_inverse=True, return_counts=True)
    shared = np.array([belongs_to_prompt(count, items) for count in holders.tolist()], dtype=bool)
    return shared[group]


def _word_spans(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where each word of a text (`evals.overlap.words`) begins and ends: int64 [words] each.

    Words within one stretch without white space have its span, as normalisation may change its length.
    """
    begins: list[np.ndarray] = [np.zeros(0, np.int64)]
    ends: list[np.ndarray] = [np.zeros(0, np.int64)]
    first = 0
    for block in blocks(text):
        spans = np.array(list(_spans(block)), dtype=np.int64).reshape(-1, 2) + first
        begins.append(spans[:, 0])
        ends.append(spans[:, 1])
        first += len(block)
    return np.concatenate(begins), np.concatenate(ends)


def _spans(block: str) -> Iterator[tuple[int, int]]:
    for token in _TOKEN.finditer(block):
        for _ in words(token.group()):
            yield token.span()
