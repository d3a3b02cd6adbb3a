"""Which items of a benchmark occur in a text: word n-grams, as GPT-3's authors looked for them.

Brown et al. 2020 (arXiv 2005.14165, appendix C): words are compared without case and punctuation; a task's N
is the 5th percentile of its items' lengths in words, but at least 8 and at most 13; an item with an N-gram
that the text has too is dirty. Here an N-gram that most items of a task share is left out: it belongs to
the prompt. Characters of scripts that do not space words count as words.

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

Verdict = Literal["clean", "dirty", "short"]

SHORTEST, LONGEST = 8, 13
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana, Han."""
_ASCII_APART = {point: " " for point in range(128) if not chr(point).isalnum()}
"""A quick first cut: most words are ASCII."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORDS_AT_ONCE = 1 << 18
_SHARED = 0.5
_FEWEST_SHARING = 3


@dataclass(frozen=True)
class Overlap:
    """What an item has in common with the text.

    Attributes:
        words: of the item.
        covered: of its words those that lie in a shared N-gram.
        longest: words of the longest stretch of such N-grams.
        found_in: a document for each source of the text in which one was found.
        verdict: "short" if the item has fewer than N words, so that nothing can be said.
    """

    words: int
    covered: int
    longest: int
    found_in: Mapping[str, str]
    verdict: Verdict


@dataclass(frozen=True)
class TaskOverlaps:
    """A task's items, looked for in the text; `n` is the length of the N-grams."""

    n: int
    items: Mapping[str, Overlap]


def words(text: str) -> list[str]:
    """Words without case and punctuation."""
    pieces = unicodedata.normalize("NFKC", text).casefold().translate(_ASCII_APART).split()
    part = _pattern().findall
    return [word for piece in pieces for word in ((piece,) if piece.isascii() else part(piece))]


@functools.cache
def _pattern() -> re.Pattern[str]:
    parting = (point for point in range(sys.maxunicode + 1) if _parts_words(chr(point)))
    ranges = (list(run) for _, run in itertools.groupby(enumerate(parting), lambda pair: pair[1] - pair[0]))
    apart = "".join(f"\\U{run[0][1]:08x}-\\U{run[-1][1]:08x}" for run in ranges)
    return re.compile(f"[{_UNSPACED}]|[^{apart}{_UNSPACED}]+")


def _parts_words(character: str) -> bool:
    """Whether it is punctuation, a symbol, white space or a control character."""
    category = unicodedata.category(character)
    return category[0] in "PSZ" or category == "Cc"


def ngram_length(lengths: Iterable[int]) -> int:
    """N of a task, given its items' lengths in words."""
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
        tasks: by task, the items' texts by their ids.
        documents: of the text: source, id, text of each.
        n: length of the N-grams; the tasks' own (see above) if none.
        on_progress: called with the documents done.
    """
    index = _Index()
    indexed = {task: [index.encode(words(text)) for text in items.values()] for task, items in tasks.items()}
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


class _Index:
    """Words that items have, each with a random number; any other word is 0."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._random = np.random.default_rng(0)

    def encode(self, found: list[str]) -> np.ndarray:
        """Numbers of words that thereby become known: uint64 [words]."""
        for word in found:
            if word not in self._numbers:
                self._numbers[word] = int(self._random.integers(1, 2**64, dtype=np.uint64))
        return self.known(found)

    def known(self, found: list[str]) -> np.ndarray:
        """Numbers of words: uint64 [words]."""
        return np.fromiter((self._numbers.get(word, 0) for word in found), np.uint64, len(found))


def hashes(numbers: np.ndarray, n: int) -> np.ndarray:
    """Hash of every n-gram, 0 for those with an unknown word: uint64 [words - n + 1]."""
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
    """Documents end to end, parted by an unknown word.

    Attributes:
        numbers: uint64 [words].
        begins: [documents] where each begins.
        names: source and id of each.
    """

    numbers: np.ndarray
    begins: np.ndarray
    names: list[tuple[str, str]]


def _batches(documents: Iterable[tuple[str, str, str]], index: _Index) -> Iterator[_Batch]:
    parts: list[np.ndarray] = []
    names: list[tuple[str, str]] = []
    size = 0
    for source, id, text in documents:
        parts.append(np.append(index.known(words(text)), np.uint64(0)))
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
    """N-grams of one length, looked for in batch after batch; `found` has a document by hash and source."""

    def __init__(self, wanted: np.ndarray) -> None:
        self._wanted = np.unique(wanted)  # sorted
        self.found: dict[int, dict[str, str]] = {}

    def look(self, batch: _Batch, n: int) -> None:
        """Note where N-grams of this batch are wanted ones."""
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
    """Overlaps of a task's items; what most of them share counts for none."""
    grams = [hashes(numbers, n) for numbers in items]
    holders = Counter(hashed for each in grams for hashed in set(each.tolist()) if hashed in found)
    most = max(_FEWEST_SHARING, _SHARED * len(items))
    counted = {hashed for hashed, count in holders.items() if count < most}
    for numbers, each in zip(items, grams, strict=True):
        hits = [place for place, hashed in enumerate(each.tolist()) if hashed in counted]
        documents: dict[str, str] = {}
        for place in hits:
            for source, id in found[int(each[place])].items():
                documents.setdefault(source, id)
        runs = _runs(hits, n)
        verdict: Verdict = "dirty" if hits else "clean" if len(numbers) >= n else "short"
        yield Overlap(len(numbers), sum(runs), max(runs, default=0), documents, verdict)


def _runs(hits: list[int], n: int) -> list[int]:
    """Lengths in words of the stretches that n-grams at ascending places cover."""
    runs: list[int] = []
    end = -1
    for place in hits:
        if place <= end:
            runs[-1] += place + n - end
        else:
            runs.append(n)
        end = place + n
    return runs
