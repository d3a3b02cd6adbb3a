"""Score a text in a model's own tokens, in merged ones, and after merged context.

Merges of a batch come from the text before the batch, or, in a context, from the context itself (see
`evals.dynamic`). A batch is as long as one window, so that merges follow the text closely.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.bits_per_byte import Scores, TokenisedText, score
from cpt.models.shared_windows import Reader
from evals.dynamic.model import GrownVocabulary
from evals.dynamic.windows import WordWindow, batches, word_windows
from tokenizer_tools.dynamic.merges import MergedTokens, find_merges
from tokenizer_tools.dynamic.words import Word, WordBoundaries, ids_of
from tokenizer_tools.vocabulary import Vocabulary

HISTORY = 16_384
"""Tokens of the text before a batch that its merges come from."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of what was merged.

    Attributes:
        before, after: Number of tokens before and after merging.
        bytes: Number of bytes that they stand for.
    """

    before: int
    after: int
    bytes: int

    @property
    def removed(self) -> float:
        """Return the share of tokens that merging removed."""
        return 1 - self.after / self.before


@dataclass(frozen=True)
class Comparison:
    """The same text read as usual and with merged tokens.

    Attributes:
        usual, merged: Scores of both by document, with the same bytes. Documents without a window are left
            out.
        lengths: Lengths of what was merged.
    """

    usual: Scores
    merged: Scores
    lengths: Lengths


@dataclass(frozen=True)
class DynamicScores:
    """Scores of a source's documents under one model.

    Attributes:
        merged: The scored text is merged.
        prefill: The context is merged, in windows that continue a document; None if there are none.
        tokens: Mean number of merged tokens among which a token was predicted.
    """

    merged: Comparison
    prefill: Comparison | None
    tokens: float


def score_dynamic(
    model: GrownVocabulary,
    vocabulary: Vocabulary,
    reader: Reader,
    documents: Iterable[Document],
    share: float,
    on_progress: Callable[[int], None] | None = None,
) -> DynamicScores:
    """Score documents in all three ways.

    Args:
        model: Model.
        vocabulary: Its vocabulary.
        reader: Its tokenizer and windows.
        documents: Documents in their order.
        share: Share of the tokens that merging removes from the text that merges are taken from.
        on_progress: Function of the number of tokens, called after every batch.

    Raises:
        DataError: There is nothing to score.
    """
    scorer = _Scorer(model, vocabulary, share)
    boundaries = WordBoundaries(reader.tokenizer, vocabulary.surfaces)
    for batch in batches(word_windows(reader, boundaries, documents), reader.windows.size):
        scorer.read(batch)
        if on_progress is not None:
            on_progress(sum(each.tokens for each in batch))
    if not scorer.batches:
        raise DataError("there is no text to score")
    return DynamicScores(
        merged=scorer.whole.comparison(),
        prefill=scorer.continued.comparison() if scorer.continued.before else None,
        tokens=scorer.offered / scorer.batches,
    )


class _Sums:
    """Sums over windows."""

    def __init__(self) -> None:
        self._by_document: dict[int, np.ndarray] = {}
        self.before = self._after = self._spelt = 0

    def add(self, windows: Sequence[WordWindow], usual: np.ndarray, merged: np.ndarray) -> None:
        """Add the nats [windows] of windows, read in both ways."""
        for window, *nats in zip(windows, usual.tolist(), merged.tolist(), strict=True):
            self._by_document.setdefault(window.document, np.zeros(3))[:] += (*nats, window.bytes)

    def count(self, before: Sequence[Word], after: Sequence[Word], tokens: MergedTokens) -> None:
        """Add the lengths of words before and after merging."""
        self.before += sum(map(len, before))
        self._after += sum(map(len, after))
        self._spelt += sum(len(tokens.surface(token)) for word in before for token in word)

    def comparison(self) -> Comparison:
        """Return the sums by document."""
        usual, merged, counted = np.stack(list(self._by_document.values())).T
        size = counted.astype(np.int64)
        lengths = Lengths(self.before, self._after, self._spelt)
        return Comparison(Scores(usual, size), Scores(merged, size), lengths)


class _Scorer:
    """The sums so far, and the text that the next merges come from."""

    def __init__(self, model: GrownVocabulary, vocabulary: Vocabulary, share: float) -> None:
        self._model, self._surfaces, self._share = model, vocabulary.surfaces, share
        self._history: deque[Word] = deque()
        self._held = 0
        self.whole, self.continued = _Sums(), _Sums()
        self.offered = self.batches = 0

    def read(self, batch: Sequence[WordWindow]) -> None:
        """Score the windows of a batch in all ways; its text then belongs to the history."""
        self._model.take([], predicts=True)
        usual = self._score(batch, [each.context for each in batch], [each.scored for each in batch])
        self.whole.add(batch, usual, self._in_merged_tokens(batch))
        going_on = [place for place, each in enumerate(batch) if each.continues]
        if going_on:
            windows = [batch[place] for place in going_on]
            self.continued.add(windows, usual[going_on], self._after_merged_context(windows))
        for window in batch:
            self._remember(window.scored)

    def _in_merged_tokens(self, batch: Sequence[WordWindow]) -> np.ndarray:
        """Return the nats [windows] of the batch in merged tokens, by merges of the text before it."""
        tokens = MergedTokens(self._surfaces, self._model.first)
        merges = find_merges(list(self._history), self._share, tokens)
        contexts = [merges.apply(each.context) for each in batch]
        scored = [merges.apply(each.scored) for each in batch]
        for window, merged in zip(batch, scored, strict=True):
            self.whole.count(window.scored, merged, tokens)
        self.offered += len(tokens.surfaces)
        self.batches += 1
        self._model.take(tokens.surfaces, predicts=True)
        return self._score(batch, contexts, scored)

    def _after_merged_context(self, batch: Sequence[WordWindow]) -> np.ndarray:
        """Return the nats [windows] of windows in the model's own tokens, after merged contexts."""
        tokens = MergedTokens(self._surfaces, self._model.first)
        contexts = [find_merges(each.context, self._share, tokens).apply(each.context) for each in batch]
        for window, context in zip(batch, contexts, strict=True):
            self.continued.count(window.context, context, tokens)
        self._model.take(tokens.surfaces, predicts=False)
        return self._score(batch, contexts, [each.scored for each in batch])

    def _score(
        self, batch: Sequence[WordWindow], contexts: Sequence[list[Word]], scored: Sequence[list[Word]]
    ) -> np.ndarray:
        """Return the nats [windows] of the scored words after each context, as they are or merged."""
        windows, held = [], []
        for window, before, words in zip(batch, contexts, scored, strict=True):
            known = [*window.start, *ids_of(before)]
            windows.append(np.array([*known, *ids_of(words)], dtype=np.int64))
            held.append(len(known))
        sizes = np.array([each.bytes for each in batch], dtype=np.int64)
        text = TokenisedText(windows, np.array(held, dtype=np.int64), np.arange(len(batch)), sizes)
        return score(self._model, text).nats

    def _remember(self, words: Sequence[Word]) -> None:
        self._history.extend(words)
        self._held += sum(map(len, words))
        while self._held > HISTORY:
            self._held -= len(self._history.popleft())
