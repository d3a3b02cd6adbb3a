"""Prepare the batch of a step: texts, the tokens that they are read in, these tokens' pieces, and their ids.

The tokens are those of a tokenizer that is sampled for the texts, or of a fixed one, or the source
tokenizer's own, merged by their frequency in the batch (dynamic tokenization, `tokenizer_tools.dynamic`).

Shapes: W tokens with rows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cpt.errors import DataError
from cpt.training.data import one_ahead
from tokenizer_tools.dynamic.merges import MergedTokens, find_merges
from tokenizer_tools.dynamic.words import Word, WordBoundaries, ids_of, words_of
from tokenizer_tools.hypernetwork.sampling import TokenizerSampler
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, from_pieces, surface_forms
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig
from tokenizer_tools.hypernetwork.training.texts import TextStream
from tokenizer_tools.transfer import pieces_of
from tokenizer_tools.vocabulary import Vocabulary

_CHARACTERS_PER_TOKEN = 5
"""Characters of a text for each of its tokens: few tokenizers' texts are shorter than the most tokens."""


@dataclass(frozen=True)
class Batch:
    """The batch of a step of language modelling.

    Attributes:
        texts: Places of each text's tokens among the W that have rows; each has two tokens or more.
        forms: Pieces of these tokens.
        bytes: [W] int64 number of bytes of each.
        vocabulary: Number of tokens of the sampled or fixed tokenizer, or of own and merged ones.
        noise: Standard deviation of the noise of the tokenizer's probabilities.
    """

    texts: Sequence[np.ndarray]
    forms: SurfaceForms
    bytes: np.ndarray
    vocabulary: int
    noise: float

    @property
    def tokens(self) -> int:
        """Return the number of tokens that the model reads."""
        return sum(map(len, self.texts))

    @property
    def targets(self) -> int:
        """Return the number of tokens that the model predicts."""
        return self.tokens - len(self.texts)

    @property
    def target_bytes(self) -> int:
        """Return the number of bytes of the tokens that the model predicts."""
        return int(sum(self.bytes[text[1:]].sum() for text in self.texts))


class Batches(Protocol):
    """The batches of a run, each a pure function of the step and of seed, settings and text."""

    def of_steps(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps from `first` up to `last`; the next is prepared while one is used."""


def batches_of(
    source: Vocabulary,
    documents: Sequence[str],
    config: HypernetworkTrainingConfig,
    seed: int,
    target: Vocabulary | None = None,
) -> Batches:
    """Return the batches of a run.

    Args:
        source: Vocabulary of the source tokenizer.
        documents: Training documents.
        config: Settings.
        seed: Seed of the order of the texts and of every choice.
        target: Vocabulary of the fixed tokenizer, if there is one.

    Raises:
        DataError: There is no text.
    """
    stream = TextStream(documents, _CHARACTERS_PER_TOKEN * config.sequence_length, seed)
    if target is not None:
        return FixedBatches(source, target, stream, config, seed)
    kind = SampledBatches if config.dynamic is None else MergedBatches
    return kind(source, stream, config, seed)


class SampledBatches:
    """Batches in the tokens of sampled tokenizers."""

    def __init__(
        self, source: Vocabulary, stream: TextStream, config: HypernetworkTrainingConfig, seed: int
    ) -> None:
        self._source, self._stream, self._config, self._seed = source, stream, config, seed

    def of_steps(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps from `first` up to `last`; the next is prepared while one is used."""
        sampler = TokenizerSampler(self._config.sampling, self._seed)
        sampler.push(self._stream.read(*self._queued_before(first)))
        yield from one_ahead(lambda step: self._prepare(sampler, step), range(first, last))

    def _places(self, step: int) -> tuple[int, int]:
        """Return the places in the stream of a step's texts; those before the first step's fill the queue."""
        begin = self._config.sampling.queue + step * self._config.texts
        return begin, begin + self._config.texts

    def _queued_before(self, step: int) -> tuple[int, int]:
        begin, _ = self._places(step)
        return begin - self._config.sampling.queue, begin

    def _prepare(self, sampler: TokenizerSampler, step: int) -> Batch:
        texts = self._stream.read(*self._places(step))
        sampler.push(texts)
        sampled = sampler.sample(step)
        encodings = sampled.tokenizer.encode_batch_fast(texts)
        ids = [np.asarray(each.ids[: self._config.sequence_length], dtype=np.int64) for each in encodings]
        ids = [text for text in ids if len(text) > 1]
        chosen = _chosen(self._config, self._seed, step, _used(ids, step), len(sampled.tokens))
        tokens = [sampled.tokens[token_id] for token_id in chosen.tolist()]
        return Batch(
            texts=[np.searchsorted(chosen, text) for text in ids],
            forms=surface_forms(self._source, tokens, self._config.network.pieces),
            bytes=np.fromiter(map(len, tokens), np.int64, len(tokens)),
            vocabulary=len(sampled.tokens),
            noise=sampled.noise,
        )


class FixedBatches:
    """Batches in the tokens of one tokenizer. Special tokens have no predicted rows, and are left out."""

    def __init__(
        self,
        source: Vocabulary,
        target: Vocabulary,
        stream: TextStream,
        config: HypernetworkTrainingConfig,
        seed: int,
    ) -> None:
        self._source, self._target, self._stream = source, target, stream
        self._config, self._seed = config, seed
        plain = [token_id for token_id, surface in enumerate(target.surfaces) if surface]
        self._surfaces = [target.surfaces[token_id] or b"" for token_id in plain]
        self._pieces = pieces_of(source, target, plain)
        self._places = np.full(len(target.tokens), -1, dtype=np.int64)
        self._places[plain] = np.arange(len(plain))

    def of_steps(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps from `first` up to `last`; the next is prepared while one is used."""
        yield from one_ahead(self._prepare, range(first, last))

    def _prepare(self, step: int) -> Batch:
        texts = self._stream.read(step * self._config.texts, (step + 1) * self._config.texts)
        encodings = self._target.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        places = [self._places[np.asarray(each.ids, dtype=np.int64)] for each in encodings]
        ids = [text[text >= 0][: self._config.sequence_length] for text in places]
        ids = [text for text in ids if len(text) > 1]
        used, size = _used(ids, step), len(self._surfaces)
        chosen = _chosen(self._config, self._seed, step, used, size)
        surfaces = [self._surfaces[place] for place in chosen.tolist()]
        pieces = [self._pieces[place] for place in chosen.tolist()]
        length = self._config.network.pieces
        return Batch(
            texts=[np.searchsorted(chosen, text) for text in ids],
            forms=from_pieces(pieces, surfaces, len(self._source.tokens), length),
            bytes=np.fromiter(map(len, surfaces), np.int64, len(surfaces)),
            vocabulary=size,
            noise=0.0,
        )


class MergedBatches:
    """Batches in the source tokenizer's own tokens and those that are merged from them.

    The share of the tokens that merging removes is drawn anew for each step, evenly from 0 to `dynamic`.
    """

    def __init__(
        self, source: Vocabulary, stream: TextStream, config: HypernetworkTrainingConfig, seed: int
    ) -> None:
        self._source, self._stream, self._config, self._seed = source, stream, config, seed
        self._boundaries = WordBoundaries(source.tokenizer, source.surfaces)
        self._plain = np.array([i for i, surface in enumerate(source.surfaces) if surface], dtype=np.int64)

    def of_steps(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps from `first` up to `last`; the next is prepared while one is used."""
        yield from one_ahead(self._prepare, range(first, last))

    def _prepare(self, step: int) -> Batch:
        texts = self._stream.read(step * self._config.texts, (step + 1) * self._config.texts)
        tokens = MergedTokens(self._source.surfaces, len(self._source.tokens))
        merged = self._merged([self._words(text) for text in texts], step, tokens)
        ids = [np.asarray(ids_of(words)[: self._config.sequence_length], dtype=np.int64) for words in merged]
        ids = [text for text in ids if len(text) > 1]
        used = _used(ids, step)
        own = np.searchsorted(self._plain, used[used < tokens.first])
        chosen = self._plain[_chosen(self._config, self._seed, step, own, len(self._plain))]
        known = np.concatenate([chosen, tokens.first + np.arange(len(tokens.surfaces))])
        surfaces = [tokens.surface(token) for token in known.tolist()]
        return Batch(
            texts=[np.searchsorted(known, text) for text in ids],
            forms=self._forms(chosen, tokens.surfaces),
            bytes=np.fromiter(map(len, surfaces), np.int64, len(surfaces)),
            vocabulary=len(self._plain) + len(tokens.surfaces),
            noise=0.0,
        )

    def _merged(self, texts: Sequence[list[Word]], step: int, tokens: MergedTokens) -> list[list[Word]]:
        """Return the texts' words with the batch's merges."""
        share = float(np.random.default_rng([self._seed, step, 3]).uniform(0, self._config.dynamic or 0))
        merges = find_merges([word for words in texts for word in words], share, tokens)
        return [merges.apply(words) for words in texts]

    def _words(self, text: str) -> list[Word]:
        """Return the words of the source tokenizer's tokens that stand for text."""
        encoding = self._source.tokenizer.encode(text, add_special_tokens=False)
        words = words_of(np.asarray(encoding.ids, dtype=np.int64), self._boundaries.starts(encoding))
        return [word for word in words if self._source.surfaces[word[0]]]

    def _forms(self, own: np.ndarray, merged: Sequence[bytes]) -> SurfaceForms:
        """Return the pieces of own tokens, which are themselves, and those of merged ones."""
        pieces = [[int(token)] for token in own]
        surfaces = [self._source.surfaces[token] or b"" for token in own]
        pieces += self._source.segment_all(merged, one_word=True)
        size, length = len(self._source.tokens), self._config.network.pieces
        return from_pieces(pieces, [*surfaces, *merged], size, length)


def _used(texts: Sequence[np.ndarray], step: int) -> np.ndarray:
    """Return the ids of a step's texts, ascending, each once.

    Raises:
        DataError: No text has two tokens, so that nothing could be predicted.
    """
    if not texts:
        raise DataError(
            f"no text of step {step + 1} has two tokens, so that there is nothing to predict",
            hint="Give longer documents, or more `texts` to a step.",
        )
    return np.unique(np.concatenate(texts))


def _chosen(
    config: HypernetworkTrainingConfig, seed: int, step: int, used: np.ndarray, size: int
) -> np.ndarray:
    """Return the ids below `size` that get rows, ascending: those that are used, and others at random."""
    others = np.setdiff1d(np.arange(size), used)
    if config.predicted is not None and config.predicted < size:
        generator = np.random.default_rng([seed, step, 1])
        others = generator.choice(others, max(0, config.predicted - len(used)), replace=False)
    return np.sort(np.concatenate([used, others]))
