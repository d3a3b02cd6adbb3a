"""Merge the most frequent pair of adjacent tokens, again and again.

Source: Feher, Vulić, Minixhofer (arXiv 2411.18553). Unlike in the training of a BPE tokenizer,
the text is a batch, and it starts from the tokens of a model.

A pair's frequency is the number of places where it stands within a word. Of pairs that are equally frequent
the one that was seen first is merged; the text is looked through from its beginning, first as it is, then
after every merge. Counts are kept up to date, so a merge costs no more than the words that hold its pair.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tokenizer_tools.dynamic.words import Word

Pair = tuple[int, int]
Merge = tuple[int, int, int]
"""Left token, right token, and the merged one."""


class MergedTokens:
    """Merged tokens by their bytes: two pairs with the same bytes make the same token.

    Attributes:
        first: Id of the first of them.
        surfaces: Bytes of each, in the order of their ids.
    """

    def __init__(self, surfaces: Sequence[bytes | None], first: int) -> None:
        """Start without merged tokens.

        Args:
            surfaces: Bytes of the tokenizer's own tokens by id.
            first: Id of the first merged token, behind all ids and rows of the model.

        Raises:
            ValueError: That id is one of the tokenizer's own.
        """
        if first < len(surfaces):
            raise ValueError(f"id {first} is one of the tokenizer's {len(surfaces)}")
        self.first = first
        self.surfaces: list[bytes] = []
        self._own = surfaces
        self._ids: dict[bytes, int] = {}

    def surface(self, token: int) -> bytes:
        """Return the bytes that a token stands for; nothing for a special one."""
        return self.surfaces[token - self.first] if token >= self.first else self._own[token] or b""

    def join(self, left: int, right: int) -> int:
        """Return the id of the token that two tokens make."""
        surface = self.surface(left) + self.surface(right)
        if surface not in self._ids:
            self._ids[surface] = self.first + len(self.surfaces)
            self.surfaces.append(surface)
        return self._ids[surface]


class Merges:
    """Merges in the order in which they are done.

    Attributes:
        steps: The merges.
    """

    def __init__(self, steps: Sequence[Merge]) -> None:
        self.steps = tuple(steps)
        self._numbers: dict[Pair, list[int]] = defaultdict(list)
        for number, (left, right, _) in enumerate(self.steps):
            self._numbers[left, right].append(number)
        self._known: dict[Word, Word] = {}

    def apply(self, words: Iterable[Word]) -> list[Word]:
        """Return words with their pairs merged, as if each merge were done in the whole text in turn."""
        return [self._merged(word) for word in words]

    def _merged(self, word: Word) -> Word:
        if word not in self._known:
            found, step = word, 0
            while (step := self._next(found, step)) < len(self.steps):
                found = replaced(found, self.steps[step])
                step += 1
            self._known[word] = found
        return self._known[word]

    def _next(self, word: Word, least: int) -> int:
        """Return the number of the first merge from `least` on that a word has a pair for."""
        later = [len(self.steps)]
        for pair in pairwise(word):
            if (numbers := self._numbers.get(pair)) is not None:
                later += numbers[bisect_left(numbers, least) :][:1]
        return min(later)


def find_merges(words: Sequence[Word], share: float, tokens: MergedTokens) -> Merges:
    """Find the merges that shorten a text by a share of its tokens.

    Args:
        words: Words of the text in their order.
        share: Share of the tokens to remove. Merging ends as soon as it is reached, or where each word is one
            token.
        tokens: Merged tokens; receives new ones.
    """
    text = _Text(words)
    wanted = share * sum(map(len, words))
    steps: list[Merge] = []
    removed = 0
    while removed < wanted and (pair := text.most_frequent()) is not None:
        steps.append((*pair, tokens.join(*pair)))
        removed += text.merge(steps[-1])
    return Merges(steps)


def replaced(word: Word, merge: Merge) -> Word:
    """Return a word with a pair merged, from left to right."""
    left, right, merged = merge
    found: list[int] = []
    at = 0
    while at < len(word):
        if word[at] == left and word[at + 1 : at + 2] == (right,):
            found.append(merged)
            at += 2
        else:
            found.append(word[at])
            at += 1
    return tuple(found)


class _Text:
    """Different words of a text with their frequencies, and the frequencies of pairs in the text.

    Different words are in the order of their first places. So the first place of a pair is in the first of
    the different words that hold it.
    """

    def __init__(self, words: Iterable[Word]) -> None:
        frequencies = Counter(words)
        self._words = list(frequencies)
        self._frequencies = list(frequencies.values())
        self._counts: Counter[Pair] = Counter()
        self._holders: dict[Pair, set[int]] = defaultdict(set)
        self._seen: dict[Pair, int] = {}
        self._heap: list[tuple[int, int, Pair]] = []
        for index in range(len(self._words)):
            self._count(index, 1)
        self._push(self._counts)

    def most_frequent(self) -> Pair | None:
        """Return the most frequent pair, and remove it from the heap; None if there are no pairs.

        The heap has an entry for every count that a pair has had; outdated ones are dropped.
        """
        while self._heap:
            count, _, pair = heapq.heappop(self._heap)
            if -count == self._counts[pair]:
                return pair
        return None

    def merge(self, merge: Merge) -> int:
        """Merge a pair everywhere, and return the number of tokens that this removes."""
        changed: set[Pair] = set()
        removed = 0
        for index in sorted(self._holders.pop(merge[:2])):
            before = self._words[index]
            after = replaced(before, merge)
            self._count(index, -1)
            self._words[index] = after
            self._count(index, 1)
            changed.update(pairwise(before), pairwise(after))
            removed += self._frequencies[index] * (len(before) - len(after))
        self._push(changed)
        return removed

    def _count(self, index: int, sign: int) -> None:
        """Add or subtract the pairs of a word."""
        for pair in pairwise(self._words[index]):
            self._seen.setdefault(pair, len(self._seen))
            self._counts[pair] += sign * self._frequencies[index]
            if sign > 0:
                self._holders[pair].add(index)
            else:
                self._holders[pair].discard(index)

    def _push(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            if self._counts[pair]:
                heapq.heappush(self._heap, (-self._counts[pair], self._seen[pair], pair))
