"""Continued BPE: go on learning merges where the tokenizer's own training stopped.

Reference: arXiv 2512.03989. The corpus is segmented by the existing tokenizer, word by word as its own
normalizer and pre-tokenizer cut it; then the most frequent pair of adjacent tokens becomes a merge, again
and again. Every new token arises from a merge of tokens that occur, so none is unreachable, and a merge
ranks after all older ones, so text in which no new merge applies is tokenised as before.

Where a pair's product is a token already (it had been out of reach from these two parts), the merge is
learnt and no id is spent: the text gets shorter with a row that is trained. Older merges may then apply
to that product, so such words are segmented on by all merges, not by the new one alone.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from tokenizers import Tokenizer

from cpt.errors import StageFailed
from tokenizer_tools.bpe_file import BpeFile

Pair = tuple[int, int]
Word = tuple[int, ...]

_BATCH = 1024


@dataclass(frozen=True)
class Merge:
    """A learnt merge.

    Attributes:
        left, right: the parts, as the vocabulary spells them.
        token_id: id of their product.
        count: how often the pair occurred in the corpus when it was learnt.
        new: whether the product is a new token.
    """

    left: str
    right: str
    token_id: int
    count: int
    new: bool

    @property
    def token(self) -> str:
        """The product, as the vocabulary spells it."""
        return self.left + self.right


class MergeTable:
    """Ranked merges over token ids."""

    def __init__(self, file: BpeFile) -> None:
        ids = file.vocabulary
        self._ranks: dict[Pair, int] = {}
        self._products: list[int] = []
        for left, right in file.merges:
            self.add((ids[left], ids[right]), ids[left + right])

    def add(self, pair: Pair, product: int) -> None:
        """Append a merge."""
        self._ranks.setdefault(pair, len(self._products))
        self._products.append(product)

    def segment(self, tokens: Sequence[int]) -> list[int]:
        """Apply merges, the best-ranked and leftmost first, until none applies."""
        symbols = list(tokens)
        while True:
            ranked = (
                (self._ranks[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in self._ranks
            )
            best = min(ranked, default=None)
            if best is None:
                return symbols
            rank, at = best
            symbols[at : at + 2] = [self._products[rank]]


def words_of(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[Word]]:
    """Every text as its words, each word as the ids that the tokenizer gives it."""
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            ids, words = encoding.ids, encoding.word_ids
            starts = [at for at in range(len(ids)) if at == 0 or words[at] != words[at - 1]]
            yield [tuple(ids[start:end]) for start, end in pairwise([*starts, len(ids)])]


def count_words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[Word]:
    """How often each word occurs; words are as in `words_of`."""
    counts: Counter[Word] = Counter()
    for words in words_of(tokenizer, texts):
        counts.update(words)
    return counts


def learn(file: BpeFile, words: Mapping[Word, int], tokens: int, min_frequency: int) -> list[Merge]:
    """Learn merges until they make `tokens` new tokens.

    Args:
        file: the tokenizer to continue.
        words: how often each word occurs in the corpus (`count_words`).
        tokens: new tokens wanted.
        min_frequency: a pair that occurs less often is not merged.

    Returns:
        The merges by rank; ids of new tokens are consecutive from `file.next_id`.

    Raises:
        StageFailed: the corpus has fewer pairs of that frequency.
    """
    table, ids = MergeTable(file), dict(file.ids)
    spelling = {token_id: token for token, token_id in ids.items()}
    pairs = _PairIndex(words, spelling, file.barred())
    merges: list[Merge] = []
    next_id = file.next_id
    wanted = next_id + tokens
    while next_id < wanted:
        found = pairs.most_frequent()
        if found is None or found[1] < min_frequency:
            raise StageFailed(
                f"the corpus yields {tokens - (wanted - next_id):,} new tokens, {tokens:,} were asked for",
                hint=f"Lower extend.tokens or extend.min_frequency ({min_frequency}), or add domain text.",
            )
        (left, right), count = found
        token = spelling[left] + spelling[right]
        if token in file.added:
            pairs.bar(found[0])
            continue
        new = token not in ids
        if new:
            ids[token], spelling[next_id] = next_id, token
            next_id += 1
        product = ids[token]
        table.add(found[0], product)
        merges.append(Merge(spelling[left], spelling[right], product, count, new))
        for index in pairs.words_with(found[0]):
            symbols = pairs.words[index]
            pairs.replace(index, _replace(symbols, found[0], product) if new else table.segment(symbols))
    return merges


def _replace(symbols: Sequence[int], pair: Pair, product: int) -> list[int]:
    """Every occurrence of the pair, from the left, replaced by its product."""
    replaced: list[int] = []
    at = 0
    while at < len(symbols):
        if tuple(symbols[at : at + 2]) == pair:
            replaced.append(product)
            at += 2
        else:
            replaced.append(symbols[at])
            at += 1
    return replaced


class _PairIndex:
    """Adjacent pairs of a changing segmentation: their counts, the words they are in, the most frequent.

    The heap holds an entry for every count that a pair has had; entries that are not its present count are
    dropped when they come up.
    """

    def __init__(
        self, words: Mapping[Word, int], spelling: Mapping[int, str], barred: frozenset[int]
    ) -> None:
        self.words: list[Sequence[int]] = list(words)
        self._weights = list(words.values())
        self._spelling = spelling
        self._barred = barred
        self._barred_pairs: set[Pair] = set()
        self._counts: dict[Pair, int] = defaultdict(int)
        self._where: dict[Pair, set[int]] = defaultdict(set)
        for index, word in enumerate(self.words):
            for pair, times in self._pairs(word).items():
                self._counts[pair] += times * self._weights[index]
                self._where[pair].add(index)
        self._heap = [self._entry(pair) for pair in self._counts]
        heapq.heapify(self._heap)

    def most_frequent(self) -> tuple[Pair, int] | None:
        """The most frequent pair (of equals the lexicographically first) and its count."""
        while self._heap:
            count, _, _, pair = self._heap[0]
            if -count == self._counts.get(pair) and pair not in self._barred_pairs:
                return pair, -count
            heapq.heappop(self._heap)
        return None

    def words_with(self, pair: Pair) -> list[int]:
        """Indices of the words in which the pair occurs."""
        return sorted(self._where[pair])

    def bar(self, pair: Pair) -> None:
        """Never offer this pair again."""
        self._barred_pairs.add(pair)

    def replace(self, index: int, symbols: Sequence[int]) -> None:
        """Give a word another segmentation."""
        before, after = self._pairs(self.words[index]), self._pairs(symbols)
        self.words[index] = symbols
        for pair in before.keys() | after.keys():
            change = after[pair] - before[pair]
            if pair not in after:
                self._where[pair].discard(index)
            else:
                self._where[pair].add(index)
            if change:
                self._counts[pair] += change * self._weights[index]
                if self._counts[pair]:
                    heapq.heappush(self._heap, self._entry(pair))
                else:
                    del self._counts[pair]

    def _pairs(self, symbols: Sequence[int]) -> Counter[Pair]:
        return Counter(
            pair for pair in pairwise(symbols) if pair[0] not in self._barred and pair[1] not in self._barred
        )

    def _entry(self, pair: Pair) -> tuple[int, str, str, Pair]:
        return -self._counts[pair], self._spelling[pair[0]], self._spelling[pair[1]], pair
