"""Extend a WordPiece tokenizer: pieces for frequent pairs, at words' starts ("ab") and within words ("##ab").

Longest match is greedy, so a new piece is taken wherever it fits, also where the rest of the word is then
cut worse. Such pieces are left out as far as the corpus shows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.extension.learnt import LearnedVocabulary, numbered
from tokenizer_tools.extension.pair_merging import SegmentedCorpus, merge_pairs
from tokenizer_tools.extension.words import count_words
from tokenizer_tools.wordpiece_file import LongestMatch, read


class WordPieceRule:
    """Longest match, to which pieces can be added."""

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
    """Find new pieces.

    Args:
        folder: tokenizer folder.
        texts: the corpus.
        tokens: how many.
        min_frequency: a pair of pieces that occurs less often is not merged.

    Raises:
        DataError: the tokenizer is no WordPiece that can be extended.
        StageFailed: the corpus yields fewer.
    """
    file = read(folder)
    rule = WordPieceRule(file.longest_match())
    corpus = SegmentedCorpus(count_words(load_tokenizer(folder), texts), rule.segment)
    found = merge_pairs(rule, corpus, tokens, min_frequency, file.barred())
    new = numbered(found, file.next_id)
    return LearnedVocabulary(data=file.extended({token.token: token.token_id for token in new}), tokens=new)
