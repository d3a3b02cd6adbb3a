"""Find the items of a benchmark that occur in a text, by word n-grams as for GPT-3.

Brown et al. 2020 (arXiv 2005.14165, appendix C): words are compared without case and punctuation. A task's N
is the 5th percentile of its items' lengths in words, at least 8 and at most 13. An item with an N-gram that
the text has too is dirty. Here an N-gram that most items of a task share is ignored: it belongs to the
prompt. Characters of scripts that do not space words count as words.

N-grams are compared by 64-bit hashes: among 10⁷ of them and 10⁹ of the text, one false match is expected in
two thousand searches.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cpt.models.encoding import blocks

Verdict = Literal["clean", "dirty", "short"]

SHORTEST, LONGEST = 8, 13
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana, Han."""
_ASCII_SEPARATORS = {point: " " for point in range(128) if not chr(point).isalnum()}
"""ASCII characters that separate words, for texts of ASCII alone: quicker than a pattern."""
_ASCII_WORDS = re.compile("[0-9a-z\u0080-\U0010ffff]+")
"""Stretches between them in other texts: most are words of ASCII, and this first pass is quick."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORDS_AT_ONCE = 1 << 18
_SHARED = 0.5
_FEWEST_SHARING = 3


@dataclass(frozen=True)
class Overlap:
    """Overlap of an item with the text.

    Attributes:
        words: Number of words of the item.
        covered: Number of its words in shared N-grams.
        longest: Number of words of the longest stretch of shared N-grams.
        found_in: Document that shares an N-gram, by source of the text.
        verdict: "dirty" or "clean"; "short" if the item has fewer than N words and may be either.
    """

    words: int
    covered: int
    longest: int
    found_in: Mapping[str, str]
    verdict: Verdict


@dataclass(frozen=True)
class TaskOverlaps:
    """Overlaps of a task's items by id; `n` is the length of the N-grams."""

    n: int
    items: Mapping[str, Overlap]


def words(text: str) -> list[str]:
    """Split a text into words without case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if folded.isascii():
        return folded.translate(_ASCII_SEPARATORS).split()
    part = _pattern().findall
    pieces = _ASCII_WORDS.findall(folded)
    return [word for piece in pieces for word in ((piece,) if piece.isascii() else part(piece))]


def word_numbers(text: str, number: Callable[[str], int]) -> np.ndarray:
    """Return a number for each word of a text: uint64 [words].

    A list of all words of a long text would be ten times as large as the text, so it is read in blocks.
    """
    parts = [np.zeros(0, dtype=np.uint64)]
    for block in blocks(text):
        found = words(block)
        parts.append(np.fromiter(map(number, found), np.uint64, len(found)))
    return np.concatenate(parts)


@functools.cache
def _pattern() -> re.Pattern[str]:
    separators = (point for point in range(sys.maxunicode + 1) if _separates_words(chr(point)))
    ranges = (
        list(run) for _, run in itertools.groupby(enumerate(separators), lambda pair: pair[1] - pair[0])
    )
    separating = "".join(f"\\U{run[0][1]:08x}-\\U{run[-1][1]:08x}" for run in ranges)
    return re.compile(f"[{_UNSPACED}]|[^{separating}{_UNSPACED}]+")


def _separates_words(character: str) -> bool:
    """Return True for punctuation, symbols, white space and control characters."""
    category = unicodedata.category(character)
    return category[0] in "PSZ" or category == "Cc"


def ngram_length(lengths: Iterable[int]) -> int:
    """Return the N of a task from its items' lengths in words."""
    return int(np.clip(np.percentile(list(lengths), 5), SHORTEST, LONGEST))


def find_overlaps(
    tasks: Mapping[str, Mapping[str, str]],
    documents: Iterable[tuple[str, str, str]],
    *,
    n: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, TaskOverlaps]:
    """Look for every task's items in a text, which streams through once.

    Args:
        tasks: Texts of the items by id, by task.
        documents: Source, id and text of each document of the text.
        n: Length of the N-grams; each task's own (see above) if None.
        on_progress: Function of the number of documents done.
    """
    index = WordIndex()
    indexed = {task: [index.encode(text) for text in items.values()] for task, items in tasks.items()}
    lengths = {task: n or ngram_length(map(len, items)) for task, items in indexed.items() if items}
    searches = {
        length: _Search(
            np.concatenate(
                [
                    hashes(each, length)
                    for task in lengths
                    if lengths[task] == length
                    for each in indexed[task]
                ]
            )
        )
        for length in set(lengths.values())
    }
    done = 0
    for batch in _batches(documents, index):
        for length, search in searches.items():
            search.look(batch, length)
        done += len(batch.names)
        if on_progress is not None:
            on_progress(done)
    return {
        task: TaskOverlaps(
            lengths[task],
            dict(
                zip(
                    tasks[task],
                    _overlaps(indexed[task], lengths[task], searches[lengths[task]].found),
                    strict=True,
                )
            ),
        )
        for task in lengths
    }


class WordIndex:
    """Random numbers for the words of items; any other word is 0."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._random = np.random.default_rng(0)

    def encode(self, text: str) -> np.ndarray:
        """Add an item's words and return their numbers: uint64 [words]."""
        for word in words(text):
            if word not in self._numbers:
                self._numbers[word] = int(self._random.integers(1, 2**64, dtype=np.uint64))
        return self.known(text)

    def known(self, text: str) -> np.ndarray:
        """Return the numbers of a text's words: uint64 [words]."""
        known = self._numbers.get
        return word_numbers(text, lambda word: known(word, 0))


def hashes(numbers: np.ndarray, n: int) -> np.ndarray:
    """Hash every n-gram, 0 for those with an unknown word: uint64 [words - n + 1]."""
    count = max(0, len(numbers) - n + 1)
    result = np.zeros(count, dtype=np.uint64)
    unknown = np.zeros(count, dtype=bool)
    for offset in range(n):
        window = numbers[offset : offset + count]
        result = result * _FACTOR + window
        unknown |= window == 0
    result[unknown] = 0
    return result


@dataclass(frozen=True)
class _Batch:
    """Documents end to end, separated by an unknown word.

    Attributes:
        numbers: [words] Numbers of the words, uint64.
        begins: [documents] Index of each document's first word.
        names: Source and id of each document.
    """

    numbers: np.ndarray
    begins: np.ndarray
    names: list[tuple[str, str]]


def _batches(documents: Iterable[tuple[str, str, str]], index: WordIndex) -> Iterator[_Batch]:
    parts: list[np.ndarray] = []
    names: list[tuple[str, str]] = []
    size = 0
    for source, id, text in documents:
        parts.append(np.append(index.known(text), np.uint64(0)))
        names.append((source, id))
        size += len(parts[-1])
        if size >= _WORDS_AT_ONCE:
            yield _batch(parts, names)
            parts, names, size = [], [], 0
    if parts:
        yield _batch(parts, names)


def _batch(parts: list[np.ndarray], names: list[tuple[str, str]]) -> _Batch:
    begins = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return _Batch(np.concatenate(parts), begins, names)


class _Search:
    """Search for n-grams of one length in batch after batch; `found` has a document by hash and source."""

    def __init__(self, wanted: np.ndarray) -> None:
        self._wanted = np.unique(wanted)  # sorted
        self.found: dict[int, dict[str, str]] = {}

    def look(self, batch: _Batch, n: int) -> None:
        """Record the documents of this batch that have wanted n-grams."""
        there = hashes(batch.numbers, n)
        places = np.flatnonzero(there)
        at = np.searchsorted(self._wanted, there[places])
        at[at == len(self._wanted)] = 0
        hits = places[self._wanted[at] == there[places]] if len(self._wanted) else places[:0]
        owners = np.searchsorted(batch.begins, hits, side="right") - 1
        for hashed, owner in zip(there[hits].tolist(), owners.tolist(), strict=True):
            source, id = batch.names[owner]
            self.found.setdefault(hashed, {}).setdefault(source, id)


def _overlaps(items: list[np.ndarray], n: int, found: Mapping[int, Mapping[str, str]]) -> Iterator[Overlap]:
    """Yield the overlaps of a task's items; n-grams that most of them share do not count."""
    grams = [hashes(numbers, n) for numbers in items]
    holders = Counter(hashed for each in grams for hashed in set(each.tolist()) if hashed in found)
    counted = {hashed for hashed, count in holders.items() if not belongs_to_prompt(count, len(items))}
    for numbers, each in zip(items, grams, strict=True):
        hits = [place for place, hashed in enumerate(each.tolist()) if hashed in counted]
        documents: dict[str, str] = {}
        for place in hits:
            for source, id in found[int(each[place])].items():
                documents.setdefault(source, id)
        lengths = [length for _, length in runs(hits, n)]
        verdict: Verdict = "dirty" if hits else "clean" if len(numbers) >= n else "short"
        yield Overlap(len(numbers), sum(lengths), max(lengths, default=0), documents, verdict)


def belongs_to_prompt(holders: int, items: int) -> bool:
    """Return True if so many of a task's items share an n-gram that it belongs to their prompt."""
    return holders >= max(_FEWEST_SHARING, _SHARED * items)


def runs(places: Iterable[int], n: int) -> list[tuple[int, int]]:
    """Return first word and number of words of each stretch that n-grams at ascending places cover."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and place <= sum(found[-1]):
            found[-1] = (found[-1][0], place + n - found[-1][0])
        else:
            found.append((place, n))
    return found
