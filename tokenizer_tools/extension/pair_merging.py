"""Learn new pieces of Unigram and WordPiece tokenizers by continued pair merging.

As in continued BPE (arXiv 2512.03989) the most frequent pair of adjacent tokens becomes a token, again and
again. But its product wins by the tokenizer's rule (best path, longest match), not by a merge: also where
the pair was not adjacent, and perhaps not everywhere it was. So every word that holds the product's text is
cut again by the rule. A product stays only if it shortens the corpus and no word becomes unknown. Nothing
depends on a token's parts, so a new token that later ones leave unused is dropped again.

Unigram: a piece is cut out of text if its score is at least that of the best path over its own text. So a new
piece's score is the one of Unigram training, the logarithm of its share of the corpus's tokens, but at least
slightly more than that path's, so that the piece can be reached, and at least the lowest score, since the
cost of unknown characters depends on that one. Log-shares in this corpus are brought to the scale of the old
scores by the mean difference of the old pieces, weighted by their use here.

WordPiece: pieces start words ("ab") or continue them ("##ab"). Longest match is greedy, so a new piece is
taken wherever it fits, even if the rest of the word is then cut worse. Such pieces are left out as far as the
corpus shows them.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.extension.continued_bpe import LearnedVocabulary, numbered, too_few
from tokenizer_tools.extension.words import count_words
from tokenizer_tools.unigram_file import BestPath, UnigramFile, read_unigram
from tokenizer_tools.wordpiece_file import LongestMatch, read_wordpiece

Pair = tuple[str, str]

_SEPARATOR = "\n"


class Segmenter(Protocol):
    """The rule by which a kind of tokenizer finds tokens in a word."""

    @property
    def unknown(self) -> str:
        """Return the token of text that cannot be cut."""

    def segment(self, word: str) -> list[str]:
        """Return the tokens of a word."""

    def text(self, token: str) -> str:
        """Return the part of a word that a token stands for."""

    def join(self, left: str, right: str) -> str:
        """Return the token for two adjacent ones."""

    def knows(self, token: str) -> bool:
        """Return True if a text is a token."""

    def add(self, token: str, count: int) -> None:
        """Add a token; `count` is the frequency of its adjacent parts in the corpus."""

    def remove(self, token: str) -> None:
        """Remove an added token."""


class SegmentedCorpus:
    """Words with their counts, cut by a rule that may change.

    Attributes:
        uses: Number of uses of each token in the corpus.
    """

    def __init__(self, words: Mapping[str, int], segment: Callable[[str], Sequence[str]]) -> None:
        self._words = list(words)
        self._counts = list(words.values())
        self._segment = segment
        self._tokens = [segment(word) for word in self._words]
        self._text = _SEPARATOR.join(self._words)
        self._starts = list(accumulate((len(word) + 1 for word in self._words), initial=0))
        self.uses: Counter[str] = Counter()
        self._pairs: Counter[Pair] = Counter()
        for tokens, count in zip(self._tokens, self._counts, strict=True):
            self._count(tokens, count)
        self._heap = [(-count, pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._heap)

    def most_frequent_pair(self, barred: Collection[Pair]) -> tuple[Pair, int] | None:
        """Return the most frequent pair of tokens (of equals the lexicographically first), and its count.

        The heap has an entry for every count that a pair has had; outdated entries are dropped.
        """
        while self._heap:
            count, pair = self._heap[0]
            if count and -count == self._pairs[pair] and pair not in barred:
                return pair, -count
            heapq.heappop(self._heap)
        return None

    def cut_anew(self, text: str, unknown: str) -> set[str] | None:
        """Cut the words that hold a text again, by the present rule.

        Returns:
            Tokens with fewer uses than before. None, without a change, if the corpus would not get shorter or
            a word would become unknown.
        """
        cut = {index: self._segment(self._words[index]) for index in self._holding(text)}
        saved = sum(self._counts[i] * (len(self._tokens[i]) - len(tokens)) for i, tokens in cut.items())
        if saved <= 0 or any(unknown in new and unknown not in self._tokens[i] for i, new in cut.items()):
            return None
        touched: set[Pair] = set()
        lost: set[str] = set()
        for index, tokens in cut.items():
            before, count = self._tokens[index], self._counts[index]
            if before != tokens:
                self._count(before, -count)
                self._count(tokens, count)
                self._tokens[index] = tokens
                touched.update(pairwise(before), pairwise(tokens))
                lost.update(before)
        for pair in touched:
            heapq.heappush(self._heap, (-self._pairs[pair], pair))
        return lost

    def _count(self, tokens: Sequence[str], count: int) -> None:
        for token in tokens:
            self.uses[token] += count
        for pair in pairwise(tokens):
            self._pairs[pair] += count

    def _holding(self, text: str) -> Iterator[int]:
        """Yield the indices of the words that hold a text."""
        at = self._text.find(text)
        while at >= 0:
            index = bisect_right(self._starts, at) - 1
            yield index
            at = self._text.find(text, self._starts[index + 1])


def merge_pairs(
    rule: Segmenter, corpus: SegmentedCorpus, tokens: int, min_frequency: int, barred: Collection[str]
) -> dict[str, int]:
    """Find new tokens.

    Args:
        rule: Rule of the tokenizer; has the new tokens afterwards.
        corpus: Corpus cut by that rule.
        tokens: Number of new tokens.
        min_frequency: Lowest frequency of a pair that is merged.
        barred: Tokens that no pair may hold, and names that no product may have.

    Returns:
        Frequency of the adjacent parts of each new token when it was found, in that order.

    Raises:
        StageFailed: The corpus yields fewer tokens.
    """
    new: dict[str, int] = {}
    barred_pairs: set[Pair] = set()
    while len(new) < tokens:
        found = corpus.most_frequent_pair(barred_pairs)
        if found is None or found[1] < min_frequency:
            raise too_few(len(new), tokens, min_frequency)
        pair, count = found
        token = rule.join(*pair)
        if rule.knows(token) or not {*pair, token}.isdisjoint(barred):
            barred_pairs.add(pair)
            continue
        rule.add(token, count)
        lost = corpus.cut_anew(rule.text(token), rule.unknown)
        if lost is None:
            rule.remove(token)
            barred_pairs.add(pair)
            continue
        new[token] = count
        for unused in [other for other in lost if other in new and not corpus.uses[other]]:
            rule.remove(unused)
            del new[unused]
    return new


_MARGIN = 1e-3
"""Smallest distance of a new piece's score above that of the path that it replaces."""


class UnigramRule:
    """The rule of Unigram: the best path, to which pieces can be added."""

    def __init__(self, file: UnigramFile, path: BestPath, uses: Mapping[str, int]) -> None:
        self.unknown = path.unknown
        self.segment = path.segment
        self._path = path
        self._lowest = file.lowest
        self._zero = score_of_one_use(file.scores, uses, file.barred())

    def text(self, token: str) -> str:
        return token

    def join(self, left: str, right: str) -> str:
        return left + right

    def knows(self, token: str) -> bool:
        return token in self._path.scores

    def add(self, token: str, count: int) -> None:
        _, replaced = self._path.best(token)
        self._path.add(token, max(self._zero + math.log(count), replaced + _MARGIN, self._lowest))

    def remove(self, token: str) -> None:
        del self._path.scores[token]


def score_of_one_use(scores: Mapping[str, float], uses: Mapping[str, int], barred: frozenset[str]) -> float:
    """Compute the score of a piece that the corpus uses once, on the scale of the old scores.

    It is the mean of score(piece) - log(uses of piece) over all uses of old pieces; 0 without any.
    """
    old = scores.keys() - barred
    known = [(scores[piece], count) for piece, count in uses.items() if count and piece in old]
    total = sum(count for _, count in known)
    return sum(count * (score - math.log(count)) for score, count in known) / total if total else 0.0


def learn_unigram(folder: Path, texts: Iterable[str], tokens: int, min_frequency: int) -> LearnedVocabulary:
    """Learn new pieces of a Unigram tokenizer.

    Args:
        folder: Tokenizer folder.
        texts: Texts to learn from.
        tokens: Number of new pieces.
        min_frequency: Lowest frequency of a pair of pieces that is merged.

    Raises:
        DataError: The tokenizer is no Unigram that can be extended.
        StageFailed: The texts yield fewer pieces.
    """
    file = read_unigram(folder)
    path = file.best_path()
    corpus = SegmentedCorpus(count_words(load_tokenizer(folder), texts), path.segment)
    rule = UnigramRule(file, path, corpus.uses)
    found = merge_pairs(rule, corpus, tokens, min_frequency, file.barred())
    return LearnedVocabulary(
        data=file.extended([(token, path.scores[token]) for token in found]),
        tokens=numbered(found, file.next_id),
    )


class WordPieceRule:
    """The rule of WordPiece: longest match, to which pieces can be added."""

    def __init__(self, match: LongestMatch) -> None:
        self.unknown = match.unknown
        self.segment = match.segment
        self.text = match.text
        self._match = match

    def join(self, left: str, right: str) -> str:
        return left + self._match.text(right)

    def knows(self, token: str) -> bool:
        return token in self._match.pieces

    def add(self, token: str, count: int) -> None:  # noqa: ARG002
        self._match.add(token)

    def remove(self, token: str) -> None:
        self._match.pieces.remove(token)


def learn_wordpiece(folder: Path, texts: Iterable[str], tokens: int, min_frequency: int) -> LearnedVocabulary:
    """Learn new pieces of a WordPiece tokenizer.

    Args:
        folder: Tokenizer folder.
        texts: Texts to learn from.
        tokens: Number of new pieces.
        min_frequency: Lowest frequency of a pair of pieces that is merged.

    Raises:
        DataError: The tokenizer is no WordPiece that can be extended.
        StageFailed: The texts yield fewer pieces.
    """
    file = read_wordpiece(folder)
    rule = WordPieceRule(file.longest_match())
    corpus = SegmentedCorpus(count_words(load_tokenizer(folder), texts), rule.segment)
    found = merge_pairs(rule, corpus, tokens, min_frequency, file.barred())
    new = numbered(found, file.next_id)
    return LearnedVocabulary(data=file.extended({token.token: token.token_id for token in new}), tokens=new)
