"""Learn more merges of a BPE tokenizer where its own training stopped (continued BPE).

Reference: arXiv 2512.03989. The corpus is segmented by the existing tokenizer, word by word (`cut_words`);
then the most frequent pair of adjacent tokens becomes a merge, again and again. Every new token arises from
a merge of tokens that occur, so none is unreachable, and a merge ranks after all older ones, so text in
which no new merge applies is tokenised as before.

If a pair's product is a token already (it was out of reach from these two parts), the merge is learned and
no id is spent: the text gets shorter with a row that is trained. Older merges may then apply to that product,
so such words are segmented by all merges, not by the new one alone.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, pairwise
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import StageFailed
from tokenizer_tools.bpe_file import BpeFile, MergeTable, cut_words
from tokenizer_tools.extension.words import count_words

Pair = tuple[int, int]
Word = tuple[int, ...]

_BATCH = 1024


@dataclass(frozen=True)
class Merge:
    """A learned merge.

    Attributes:
        left, right: Parts as the vocabulary spells them.
        token_id: Id of their product.
        count: Frequency of the pair in the corpus when it was learned.
        new: True if the product is a new token.
    """

    left: str
    right: str
    token_id: int
    count: int
    new: bool

    @property
    def token(self) -> str:
        """Return the product as the vocabulary spells it."""
        return self.left + self.right


def count_segmented_words(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[Word, int]:
    """Count words; a word is the ids that the tokenizer gives it."""
    cutting = cut_words(tokenizer)
    return segment_words(cutting, count_words(cutting, texts))


def segment_words(tokenizer: Tokenizer, words: Mapping[str, int]) -> dict[Word, int]:
    """Return counted words as the ids that the tokenizer's model gives them."""
    model = Tokenizer(tokenizer.model)
    counts: dict[Word, int] = defaultdict(int)
    remaining = iter(words.items())
    while batch := list(islice(remaining, _BATCH)):
        encodings = model.encode_batch_fast([word for word, _ in batch], add_special_tokens=False)
        for (_, count), encoding in zip(batch, encodings, strict=True):
            counts[tuple(encoding.ids)] += count
    return counts


def learn_merges(file: BpeFile, words: Mapping[Word, int], tokens: int, min_frequency: int) -> list[Merge]:
    """Learn merges until they make `tokens` new tokens.

    Args:
        file: Tokenizer to continue.
        words: Frequency of each word in the corpus (`count_segmented_words`).
        tokens: Number of new tokens.
        min_frequency: Lowest frequency of a pair that is merged.

    Returns:
        Merges by rank; ids of new tokens are consecutive from `file.next_id`.

    Raises:
        StageFailed: The corpus has fewer pairs of that frequency.
    """
    merges = learn_up_to(file, words, tokens, min_frequency)
    if (found := sum(merge.new for merge in merges)) < tokens:
        raise too_few(found, tokens, min_frequency)
    return merges


def too_few(found: int, tokens: int, min_frequency: int) -> StageFailed:
    """Return the error for a corpus with too few frequent pairs."""
    return StageFailed(
        f"the corpus yields {found:,} new tokens, {tokens:,} were asked for",
        hint=f"Lower tokens or min_frequency ({min_frequency}), or add domain text.",
    )


def learn_up_to(file: BpeFile, words: Mapping[Word, int], tokens: int, min_frequency: int) -> list[Merge]:
    """Learn merges as `learn_merges` does; fewer if the corpus has no more frequent pairs."""
    table, ids = MergeTable(file), file.ids
    spelling = {token_id: token for token, token_id in ids.items()}
    barred = file.barred()
    pairs = PairIndex(words, spelling, barred, min_frequency)
    merges: list[Merge] = []
    next_id = file.next_id
    wanted = next_id + tokens
    while next_id < wanted and (found := pairs.most_frequent()):
        pair, count = found
        left, right = spelling[pair[0]], spelling[pair[1]]
        token = left + right
        if token in file.added or ids.get(token) in barred:
            pairs.bar(pair)
            continue
        new = token not in ids
        if new:
            ids[token], spelling[next_id] = next_id, token
            next_id += 1
        product = ids[token]
        table.add(pair, product)
        merges.append(Merge(left, right, product, count, new))
        pairs.replace(pair, partial(_merge, pair, product) if new else table.segment)
    return merges


def _merge(pair: Pair, product: int, symbols: Sequence[int]) -> list[int]:
    """Replace every occurrence of the pair, from the left, by its product."""
    left, right = pair
    merged: list[int] = []
    at, last = 0, len(symbols) - 1
    while at <= last:
        if at < last and symbols[at] == left and symbols[at + 1] == right:
            merged.append(product)
            at += 2
        else:
            merged.append(symbols[at])
            at += 1
    return merged


class PairIndex:
    """Adjacent pairs of a changing segmentation: their counts, their words, the most frequent pair.

    Words and heap entries are corrected on demand, which saves most of the work: `_where` also names words
    that have lost the pair, and a heap entry may state a count that has since decreased.
    """

    def __init__(
        self,
        words: Mapping[Word, int],
        spelling: Mapping[int, str],
        barred: frozenset[int],
        min_frequency: int,
    ) -> None:
        self._words: list[Sequence[int]] = []
        self._weights: list[int] = []
        self._spelling = spelling
        self._least = max(min_frequency, 1)
        self._barred_pairs: set[Pair] = set()
        self._counts: dict[Pair, int] = defaultdict(int)
        self._where: dict[Pair, list[int]] = defaultdict(list)
        for word, weight in words.items():
            for part in _without(barred, word):
                self._add(part, weight)
        self._heap = [self._entry(pair) for pair, count in self._counts.items() if count >= self._least]
        heapq.heapify(self._heap)

    def _add(self, word: Word, weight: int) -> None:
        for pair in pairwise(word):
            self._counts[pair] += weight
            self._where[pair].append(len(self._words))
        self._words.append(word)
        self._weights.append(weight)

    def most_frequent(self) -> tuple[Pair, int] | None:
        """Return the most frequent pair (of equals the lexicographically first) and its count."""
        while self._heap:
            stated, _, _, pair = self._heap[0]
            count = self._counts.get(pair, 0)
            if count < self._least or pair in self._barred_pairs:
                heapq.heappop(self._heap)
            elif count != -stated:
                heapq.heapreplace(self._heap, self._entry(pair))
            else:
                return pair, count
        return None

    def bar(self, pair: Pair) -> None:
        """Exclude a pair from now on."""
        self._barred_pairs.add(pair)

    def replace(self, pair: Pair, segment: Callable[[Sequence[int]], Sequence[int]]) -> None:
        """Segment the words with a pair again; afterwards no word has it."""
        changes: dict[Pair, int] = defaultdict(int)
        for index in dict.fromkeys(self._where.pop(pair)):
            before = self._words[index]
            after = segment(before)
            if len(after) == len(before):
                continue
            weight = self._weights[index]
            self._words[index] = after
            pairs_before = list(pairwise(before))
            for other in pairs_before:
                changes[other] -= weight
            for other in pairwise(after):
                changes[other] += weight
                if other not in pairs_before:
                    self._where[other].append(index)
        for other, change in changes.items():
            self._counts[other] += change
            if change > 0 and self._counts[other] >= self._least:
                heapq.heappush(self._heap, self._entry(other))
        del self._counts[pair]

    def _entry(self, pair: Pair) -> tuple[int, str, str, Pair]:
        return -self._counts[pair], self._spelling[pair[0]], self._spelling[pair[1]], pair


def _without(barred: frozenset[int], word: Word) -> Iterator[Word]:
    """Yield the parts of a word between barred tokens that hold a pair."""
    if barred.isdisjoint(word):
        parts: Iterable[Word] = [word]
    else:
        parts = (tuple(part) for is_barred, part in groupby(word, barred.__contains__) if not is_barred)
    return (part for part in parts if len(part) > 1)


@dataclass(frozen=True)
class NewToken:
    """A token that was added.

    Attributes:
        token: Token as the vocabulary spells it.
        token_id: Id; ids of new tokens are consecutive, after all used ids.
        count: Frequency in the corpus when it was learned.
    """

    token: str
    token_id: int
    count: int


def numbered(counts: Mapping[str, int], first: int) -> list[NewToken]:
    """Return new tokens with ids from `first` on, in the order of the counts."""
    return [NewToken(token, first + place, counts[token]) for place, token in enumerate(counts)]


@dataclass(frozen=True)
class LearnedVocabulary:
    """An extended tokenizer, not yet written.

    Attributes:
        data: Content of the new tokenizer.json.
        tokens: New tokens in the order of their ids.
        extra: Number of appended merges; 0 for kinds without merges.
    """

    data: Mapping[str, Any]
    tokens: Sequence[NewToken]
    extra: int = 0
