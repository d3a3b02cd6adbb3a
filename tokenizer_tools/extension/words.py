"""Count the words of a corpus as a tokenizer's normalizer and pre-tokenizer cut it, and keep their order.

Learning needs every different word once, with its count. So text is cut by the `tokenizers` library, in one
process per processor, and only words and their counts come back: memory grows with the number of different
words, not with the corpus. A corpus of a few megabytes is cut without other processes. N-grams also need the
words in their order, which is kept on disk.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, count, islice
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from tokenizers import AddedToken, PreTokenizedString, Tokenizer

_PARTS = 16
"""Number of arrays of counted pairs that are kept before they are added up."""


class WordSequence:
    """The words of a corpus in their order, in a temporary file, 4 bytes each.

    A word is its number in the order in which words first occur; -1 ends a text.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115
        self._lengths: list[int] = []

    def append(self, numbers: np.ndarray) -> None:
        """Append whole texts, [W] int32."""
        self._file.write(numbers.tobytes())
        self._lengths.append(len(numbers))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the appended arrays."""
        self._file.seek(0)
        for length in self._lengths:
            yield np.frombuffer(self._file.read(4 * length), dtype=np.int32)

    def __enter__(self) -> WordSequence:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def counted_sequences(sequence: WordSequence, tokens: np.ndarray, least: int) -> dict[tuple[int, ...], int]:
    """Count runs of words in which every pair is frequent.

    Args:
        sequence: Words of the corpus in their order.
        tokens: [W] int64 token of each word by the word's number; -1 for words that n-grams may not hold.
        least: Lowest frequency of a pair.

    Returns:
        Frequency of each longest run of at least two words, as their tokens.
    """
    size = int(tokens.max(initial=0)) + 1
    frequent = _frequent_pairs(sequence, tokens, size, least)
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for words in _as_tokens(sequence, tokens):
        joined = np.isin(_pairs(words, size), frequent)
        edges = np.flatnonzero(np.diff(joined, prepend=False, append=False))
        listed = words.tolist()
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            counts[tuple(listed[start : end + 1])] += 1
    return counts


def _frequent_pairs(sequence: WordSequence, tokens: np.ndarray, size: int, least: int) -> np.ndarray:
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for words in _as_tokens(sequence, tokens):
        pairs = _pairs(words, size)
        parts.append(np.unique(pairs[pairs >= 0], return_counts=True))
        if len(parts) == _PARTS:
            parts = [_added_up(parts)]
    if not parts:
        return np.empty(0, dtype=np.int64)
    pairs, counts = _added_up(parts)
    return pairs[counts >= least]


def _as_tokens(sequence: WordSequence, tokens: np.ndarray) -> Iterator[np.ndarray]:
    known = np.append(tokens, -1)  # so that number -1, the end of a text, is -1 again
    return (known[numbers] for numbers in sequence)


def _pairs(words: np.ndarray, size: int) -> np.ndarray:
    """Return the number [W-1] int64 of each pair of adjacent words; -1 if one of them is -1."""
    left, right = words[:-1], words[1:]
    return np.where((left >= 0) & (right >= 0), left * size + right, -1)


def _added_up(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, places = np.unique(np.concatenate([pairs for pairs, _ in parts]), return_inverse=True)
    weights = np.concatenate([counts for _, counts in parts])
    return keys, np.bincount(places, weights, minlength=len(keys)).astype(np.int64)


_BATCH = 1_000_000
"""Characters of text per batch."""

_ALONE = 2
"""Number of batches that are cut before other processes are started."""

_WAITING = 32
"""Largest number of batches that other processes hold at once."""


_LONG = 1 << 18
"""Characters of a part of a long text."""

_AROUND = 1 << 10
_TRIES = 16
_BETWEEN_WORDS = re.compile(r"(?<=\S)\s(?=\S)")


@dataclass(frozen=True)
class CutText:
    """Texts, cut into words.

    Attributes:
        words: Different words.
        sequence: [W] int32 index of every word in `words`; -1 at the end of a text.
    """

    words: Sequence[str]
    sequence: np.ndarray


@dataclass(frozen=True)
class WordCutter:
    """A cut of texts into words as by a tokenizer before its model sees them.

    Attributes:
        normalizer, pre_tokenizer: Components of the tokenizer.
        added: Pattern of added tokens in raw text; they are no words and end a run of words.
        added_after: Pattern of added tokens in normalized text.
    """

    normalizer: Any
    pre_tokenizer: Any
    added: re.Pattern[str] | None
    added_after: re.Pattern[str] | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordCutter:
        """Return the cutter of a tokenizer."""
        plain = tokenizer.encode_special_tokens  # special tokens count as text
        added = tokenizer.get_added_tokens_decoder().values()
        tokens = [token for token in added if not (plain and token.special)]
        normal = tokenizer.normalizer
        normalised = normal.normalize_str if normal else str
        return cls(
            tokenizer.normalizer,
            tokenizer.pre_tokenizer,
            _pattern((token, token.content) for token in tokens if not token.normalized),
            _pattern((token, normalised(token.content)) for token in tokens if token.normalized),
        )

    def words(self, text: str) -> Iterator[list[str]]:
        """Yield the words between one added token and the next."""
        for part in self.added.split(text) if self.added else [text]:
            normal = self.normalizer.normalize_str(part) if self.normalizer else part
            for run in self.added_after.split(normal) if self.added_after else [normal]:
                if self.pre_tokenizer:
                    yield [word for part in self._parts(run) for word in self._pieces(part)]
                elif run:
                    yield [run]

    def _pieces(self, text: str) -> list[str]:
        """Return the words of a text; takes about 350 bytes a character on the way."""
        pieces = PreTokenizedString(text)
        self.pre_tokenizer.pre_tokenize(pieces)
        return [word for word, _, _ in pieces.get_splits("normalized", "byte")]

    def _parts(self, text: str) -> Iterator[str]:
        """Cut a long text where its words stay the same, so that memory stays bounded.

        A place is fit if the words around it are those of its two sides: a pre-tokenizer looks at a few
        characters. Without such a place near a part's end, the rest of the text stays whole.
        """
        begin = 0
        while len(text) - begin > 2 * _LONG:
            places = islice(_BETWEEN_WORDS.finditer(text, begin + _LONG), _TRIES)
            end = next((place.start() for place in places if self._fits(text, place.start())), None)
            if end is None:
                break
            yield text[begin:end]
            begin = end
        yield text[begin:]

    def _fits(self, text: str, place: int) -> bool:
        before, after = text[max(0, place - _AROUND) : place], text[place : place + _AROUND]
        return self._pieces(before + after) == self._pieces(before) + self._pieces(after)

    def cut(self, texts: Iterable[str]) -> CutText:
        """Cut texts."""
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        sequence: list[int] = []
        for text in texts:
            for words in self.words(text):
                sequence += [numbers[word] for word in words]
                sequence.append(-1)
        return CutText(list(numbers), np.array(sequence, dtype=np.int32))


def _pattern(tokens: Iterable[tuple[AddedToken, str]]) -> re.Pattern[str] | None:
    """Return a pattern of tokens by their texts; of tokens at the same place the longest matches."""
    alternatives = [_alternative(*each) for each in sorted(tokens, key=lambda each: -len(each[1]))]
    return re.compile("|".join(alternatives)) if alternatives else None


def _alternative(token: AddedToken, text: str) -> str:
    found = re.escape(text)
    if token.single_word:
        found = rf"(?<!\w){found}(?!\w)"
    spaces = r"\s*"
    return spaces * token.lstrip + found + spaces * token.rstrip


def count_words(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    sequence: WordSequence | None = None,
    processes: int | None = None,
) -> dict[str, int]:
    """Count words, in the order in which they first occur.

    Args:
        tokenizer: Tokenizer whose pre-tokenizer cuts the words.
        texts: Texts to count, read once.
        sequence: Receiver of the corpus word by word.
        processes: Number of processes; None is one per processor. The result does not depend on it. They are
            spawned, so a script that calls this needs the usual `if __name__ == "__main__":`.
    """
    numbers: dict[str, int] = {}
    counts: list[int] = []
    for cut in _cut_all(WordCutter.of(tokenizer), texts, processes or _processors()):
        own = np.array([numbers.setdefault(word, len(numbers)) for word in cut.words], dtype=np.int32)
        counts += [0] * (len(numbers) - len(counts))
        occurrences = np.bincount(cut.sequence[cut.sequence >= 0], minlength=len(own))
        for number, times in zip(own.tolist(), occurrences.tolist(), strict=True):
            counts[number] += times
        if sequence is not None:
            sequence.append(np.append(own, np.int32(-1))[cut.sequence])
    return dict(zip(numbers, counts, strict=True))


def _cut_all(cutter: WordCutter, texts: Iterable[str], processes: int) -> Iterator[CutText]:
    """Yield texts cut batch by batch, in their order."""
    batches = _batches(texts)
    yield from map(cutter.cut, islice(batches, _ALONE))
    if (following := next(batches, None)) is None:
        return
    batches = chain([following], batches)
    with _pool(processes) as pool:
        yield from _cut_in_pool(cutter, batches, pool) if pool else map(cutter.cut, batches)


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield a pool of processes; None if one is enough or the system does not allow more."""
    pool = None
    if processes > 1 and not multiprocessing.current_process().daemon:
        with suppress(OSError, NotImplementedError):
            pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    with pool or nullcontext():
        yield pool


def _cut_in_pool(
    cutter: WordCutter, batches: Iterable[Sequence[str]], pool: ProcessPoolExecutor
) -> Iterator[CutText]:
    """Yield batches cut in other processes; batches of a process that died are cut here."""
    pending: deque[tuple[Sequence[str], Future[CutText]]] = deque()

    def oldest() -> CutText:
        batch, future = pending.popleft()
        try:
            return future.result()
        except (BrokenProcessPool, OSError):
            return cutter.cut(batch)

    for batch in batches:
        pending.append((batch, _submitted(pool, cutter, batch)))
        if len(pending) > _WAITING:
            yield oldest()
    while pending:
        yield oldest()


def _submitted(pool: ProcessPoolExecutor, cutter: WordCutter, batch: Sequence[str]) -> Future[CutText]:
    try:
        return pool.submit(cutter.cut, batch)
    except (BrokenProcessPool, OSError) as error:
        failed: Future[CutText] = Future()
        failed.set_exception(error)
        return failed


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield batches of a million characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
