"""Extend a Unigram tokenizer: pieces for frequent pairs, with scores that let them win.

A piece is cut out of text wherever its score is at least that of the best path over its own text. So a new
piece's score is what Unigram training means by one, the logarithm of its share of the corpus's tokens, but
at least a little more than that path's, so that it can be reached, and at least the lowest score that there
is, since the cost of unknown characters hangs on that one.

Log-shares in this corpus are brought to the scale of the old scores by what the old pieces differ on
average, weighted by their use here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.extension.learnt import LearnedVocabulary, numbered
from tokenizer_tools.extension.pair_merging import SegmentedCorpus, merge_pairs
from tokenizer_tools.extension.words import count_words
from tokenizer_tools.unigram_file import BestPath, UnigramFile, read

_MARGIN = 1e-3
"""How much a new piece's score is above that of the path that it replaces, at least."""


class UnigramRule:
    """The best path, to which pieces can be added."""

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
    """What a piece that the corpus uses once would score, on the scale of the old scores.

    The mean of score(piece) - log(uses of piece) over all uses of old pieces; 0 in a corpus without any.
    """
    old = scores.keys() - barred
    known = [(scores[piece], count) for piece, count in uses.items() if count and piece in old]
    total = sum(count for _, count in known)
    return sum(count * (score - math.log(count)) for score, count in known) / total if total else 0.0


def learn_unigram(folder: Path, texts: Iterable[str], tokens: int, min_frequency: int) -> LearnedVocabulary:
    """Find new pieces.

    Args:
        folder: tokenizer folder.
        texts: the corpus.
        tokens: how many.
        min_frequency: a pair of pieces that occurs less often is not merged.

    Raises:
        DataError: the tokenizer is no Unigram that can be extended.
        StageFailed: the corpus yields fewer.
    """
    file = read(folder)
    path = file.best_path()
    corpus = SegmentedCorpus(count_words(load_tokenizer(folder), texts), path.segment)
    rule = UnigramRule(file, path, corpus.uses)
    found = merge_pairs(rule, corpus, tokens, min_frequency, file.barred())
    return LearnedVocabulary(
        data=file.extended([(token, path.scores[token]) for token in found]),
        tokens=numbered(found, file.next_id),
    )
