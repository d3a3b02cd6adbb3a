"""Choose new tokens that span words, together with those inside words.

AdaptiVocab (arXiv 2503.19693) gives frequent n-grams of words tokens of their own, and scores them by the
tokens that they save. Here they are part of the BPE model: merges of whole words follow the merges inside
words, and the pre-tokenizer leaves these n-grams in one piece (`ngram_pre_tokenizer`). A merge saves one
token wherever it applies, so its count is its score, and both kinds are ranked by it: an n-gram replaces the
rarest token inside words that it beats.

Learning words first loses nothing. A word that is frequent enough for such an n-gram is a
token by then, and the merges that make it are as frequent, so they do not yield their place. By the same
argument only pairs of words more frequent than the rarest token inside words matter, so text is cut between
all others, and few different sequences are left of a large corpus.

Words of an n-gram are letters after a single space; they follow each other within a line.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count, pairwise

import numpy as np

from tokenizer_tools.bpe_file import BpeFile, MergeTable
from tokenizer_tools.byte_encoding import WORD_START
from tokenizer_tools.extension.continued_bpe import Merge, Word
from tokenizer_tools.extension.ngram_pre_tokenizer import surface_of
from tokenizer_tools.extension.words import WordSequence, counted_sequences


class NGramIndex:
    """Candidate n-grams, ranked by the tokens that each would save.

    Sequences of words are cut from the left into the longest chosen n-grams, as the pre-tokenizer will cut
    them, and single words. Two neighbours form a candidate.
    """

    def __init__(
        self, sequences: Mapping[Word, int], longest: int, least: int, spelled: Callable[[Word], str]
    ) -> None:
        self._sequences = list(sequences)
        self._weights = list(sequences.values())
        self._longest = longest
        self._least = max(least, 1)
        self._spelled = spelled
        self._cut: list[list[Word]] = []
        self._chosen: dict[int, set[Word]] = defaultdict(set)
        self._barred: set[Word] = set()
        self._savings: dict[Word, int] = defaultdict(int)
        self._where: dict[Word, list[int]] = defaultdict(list)
        for index, (words, weight) in enumerate(sequences.items()):
            for pair in dict.fromkeys(pairwise(words)):
                self._where[pair].append(index)
            self._cut.append([(word,) for word in words])
            for ngram in self._candidates(self._cut[-1]):
                self._savings[ngram] += weight
        self._heap = [self._entry(ngram) for ngram, saved in self._savings.items() if saved >= self._least]
        heapq.heapify(self._heap)

    def most_saving(self) -> tuple[Word, int] | None:
        """Return the n-gram that saves most tokens (of equals the lexicographically first), and how many."""
        while self._heap:
            stated, _, ngram = self._heap[0]
            saved = self._savings[ngram]
            if saved < self._least or ngram in self._barred:
                heapq.heappop(self._heap)
            elif saved != -stated:
                heapq.heapreplace(self._heap, self._entry(ngram))
            else:
                return ngram, saved
        return None

    def bar(self, ngram: Word) -> None:
        """Exclude an n-gram from now on."""
        self._barred.add(ngram)

    def choose(self, ngram: Word) -> None:
        """Make an n-gram one piece wherever it is the longest."""
        changes: dict[Word, int] = defaultdict(int)
        self._chosen[ngram[0]].add(ngram)
        for index in min(self._where[ngram[:2]], self._where[ngram[-2:]], key=len):
            before, weight = self._cut[index], self._weights[index]
            self._cut[index] = after = self._cut_anew(self._sequences[index])
            if after != before:
                for other in self._candidates(before):
                    changes[other] -= weight
                for other in self._candidates(after):
                    changes[other] += weight
        for other, change in changes.items():
            self._savings[other] += change
            if change > 0 and self._savings[other] >= self._least:
                heapq.heappush(self._heap, self._entry(other))

    def _candidates(self, cut: Sequence[Word]) -> list[Word]:
        """Return the n-grams that neighbours could become."""
        return [left + right for left, right in pairwise(cut) if len(left) + len(right) <= self._longest]

    def _cut_anew(self, words: Word) -> list[Word]:
        cut: list[Word] = []
        at = 0
        while at < len(words):
            end = at + 1
            if chosen := self._chosen.get(words[at]):
                for length in range(self._longest, 1, -1):
                    if words[at : at + length] in chosen:
                        end = at + length
                        break
            cut.append(words[at:end])
            at = end
        return cut

    def _entry(self, ngram: Word) -> tuple[int, str, Word]:
        return -self._savings[ngram], self._spelled(ngram), ngram


@dataclass(frozen=True)
class Choice:
    """Chosen tokens of both kinds.

    Attributes:
        merges: Merges by rank, those of n-grams last.
        ngrams: Text of each n-gram, as the pre-tokenizer sees it, by its token.
    """

    merges: Sequence[Merge]
    ngrams: Mapping[str, str]


def choose(
    file: BpeFile,
    inside: Sequence[Merge],
    words: Mapping[str, int],
    sequence: WordSequence,
    *,
    tokens: int,
    min_frequency: int,
    longest: int,
) -> Choice:
    """Replace new tokens inside words by n-grams that save more.

    Args:
        file: Tokenizer to extend.
        inside: Merges that continued BPE learns on the corpus for `tokens` new tokens, or fewer.
        words, sequence: Words of the corpus (`count_words`).
        tokens: Number of new tokens of both kinds.
        min_frequency: Lowest number of tokens that an n-gram saves.
        longest: Longest n-gram in words.
    """
    model = _Model(file, inside)
    floors = _floors(inside)
    least = max(min_frequency, floors[-1] + 1 if len(floors) == tokens else 0)
    numbers = np.array(
        [model.word_token(word) if times >= least else -1 for word, times in words.items()], dtype=np.int64
    )
    index = NGramIndex(counted_sequences(sequence, numbers, least), longest, least, model.spelled)
    chosen: list[Merge] = []
    new = 0
    while new < tokens and (found := index.most_saving()):
        ngram, saved = found
        kept = tokens - new  # tokens inside words, if this n-gram gets no token
        if len(floors) >= kept and saved <= floors[kept - 1]:
            break
        merge = model.merge(ngram, saved)
        if merge is None:
            index.bar(ngram)
            continue
        index.choose(ngram)
        chosen.append(merge)
        new += merge.new
    merges = _numbered(file, [*_first(inside, tokens - new), *chosen])
    return Choice(merges, {merge.token: model.text(merge.token) for merge in chosen})


def _floors(inside: Sequence[Merge]) -> list[int]:
    """Return for each new token the highest count of its merge and all later ones.

    Counts rarely rise from one merge to the next; if one does, the earlier merge must stay for the later.
    """
    highest = list(accumulate((merge.count for merge in reversed(inside)), max))[::-1]
    return [count for count, merge in zip(highest, inside, strict=True) if merge.new]


def _first(merges: Sequence[Merge], tokens: int) -> Sequence[Merge]:
    """Return the merges up to the one that makes the last of the first new tokens."""
    made = accumulate(merge.new for merge in merges)
    return [merge for merge, number in zip(merges, made, strict=True) if number - merge.new < tokens]


def _numbered(file: BpeFile, merges: Sequence[Merge]) -> list[Merge]:
    """Return the merges with consecutive ids of new tokens."""
    ids = count(file.next_id)
    return [replace(merge, token_id=next(ids)) if merge.new else merge for merge in merges]


class _Model:
    """The BPE model, to which merges of n-grams are added, with preliminary ids."""

    def __init__(self, file: BpeFile, inside: Sequence[Merge]) -> None:
        self._barred = {file.ids[token] for token in file.added} | file.barred()
        self._surface = surface_of(file)
        self._ids = file.ids
        self._tokens = {token_id: token for token, token_id in self._ids.items()}
        self._table = MergeTable(file)
        for merge in inside:
            self._add(merge)
        self._free = count(max(self._tokens) + 1)

    def word_token(self, word: str) -> int:
        """Return the token that merges make of a word; -1 for several, or a word unfit for n-grams."""
        text = self._surface(word).decode(errors="replace")
        parts = self._segment(word) if text.startswith(" ") and text[1:].isalpha() else []
        return parts[0] if len(parts) == 1 else -1

    def spelled(self, ngram: Word) -> str:
        """Return an n-gram as the vocabulary spells it."""
        return "".join(self._tokens[token] for token in ngram)

    def text(self, token: str) -> str:
        """Return an n-gram as the pre-tokenizer sees it: with "▁", but without the byte alphabet."""
        return token if token.startswith(WORD_START) else self._surface(token).decode()

    def merge(self, ngram: Word, saved: int) -> Merge | None:
        """Add the merge that makes an n-gram of two tokens; return None if it takes several merges."""
        token = self.spelled(ngram)
        parts = [self._tokens[part] for part in self._segment(token)]
        if len(parts) != 2 or self._ids.get(token) in self._barred:
            return None
        known = self._ids.get(token)
        token_id = next(self._free) if known is None else known
        merge = Merge(parts[0], parts[1], token_id, saved, known is None)
        self._add(merge)
        return merge

    def _add(self, merge: Merge) -> None:
        self._ids[merge.token], self._tokens[merge.token_id] = merge.token_id, merge.token
        self._table.add((self._ids[merge.left], self._ids[merge.right]), merge.token_id)

    def _segment(self, text: str) -> list[int]:
        """Return the ids that merges make of a text's characters; nothing if one of them is no token."""
        if not all(character in self._ids for character in text):
            return []
        return self._table.segment([self._ids[character] for character in text])
