"""Prepare the batch of a step: texts, a tokenizer sampled for them, its tokens' pieces, and their ids.

Shapes: W tokens with predicted rows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.training.data import one_ahead
from tokenizer_tools.hypernetwork.sampling import TokenizerSampler
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, surface_forms
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig
from tokenizer_tools.hypernetwork.training.texts import TextStream
from tokenizer_tools.vocabulary import Vocabulary

_CHARACTERS_PER_TOKEN = 5
"""Characters of a text for each of its tokens: few tokenizers' texts are shorter than the most tokens."""


@dataclass(frozen=True)
class Batch:
    """The batch of a step of language modelling.

    Attributes:
        texts: Places of each text's tokens among the W predicted ones; each has two tokens or more.
        forms: Pieces of the predicted tokens.
        bytes: [W] int64 number of bytes of each.
        vocabulary: Number of tokens of the sampled tokenizer.
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


class Batches:
    """The batches of a run, each a pure function of the step and of seed, settings and text."""

    def __init__(
        self, source: Vocabulary, documents: Sequence[str], config: HypernetworkTrainingConfig, seed: int
    ) -> None:
        """Cut the documents into texts.

        Raises:
            DataError: There is no text.
        """
        self._source, self._config, self._seed = source, config, seed
        self.stream = TextStream(documents, _CHARACTERS_PER_TOKEN * config.sequence_length, seed)

    def of_steps(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps from `first` up to `last`; the next is prepared while one is used."""
        sampler = TokenizerSampler(self._config.sampling, self._seed)
        sampler.push(self.stream.read(*self._queued_before(first)))
        yield from one_ahead(lambda step: self._prepare(sampler, step), range(first, last))

    def _places(self, step: int) -> tuple[int, int]:
        """Return the places in the stream of a step's texts; those before the first step's fill the queue."""
        begin = self._config.sampling.queue + step * self._config.texts
        return begin, begin + self._config.texts

    def _queued_before(self, step: int) -> tuple[int, int]:
        begin, _ = self._places(step)
        return begin - self._config.sampling.queue, begin

    def _prepare(self, sampler: TokenizerSampler, step: int) -> Batch:
        texts = self.stream.read(*self._places(step))
        sampler.push(texts)
        sampled = sampler.sample(step)
        encodings = sampled.tokenizer.encode_batch_fast(texts)
        ids = [np.asarray(each.ids[: self._config.sequence_length], dtype=np.int64) for each in encodings]
        ids = [text for text in ids if len(text) > 1]
        chosen = self._chosen(np.unique(np.concatenate(ids)), len(sampled.tokens), step)
        tokens = [sampled.tokens[token_id] for token_id in chosen.tolist()]
        return Batch(
            texts=[np.searchsorted(chosen, text) for text in ids],
            forms=surface_forms(self._source, tokens, self._config.network.pieces),
            bytes=np.fromiter(map(len, tokens), np.int64, len(tokens)),
            vocabulary=len(sampled.tokens),
            noise=sampled.noise,
        )

    def _chosen(self, used: np.ndarray, size: int, step: int) -> np.ndarray:
        """Return the ids that get rows, ascending: those that are used, and others at random."""
        others = np.setdiff1d(np.arange(size), used)
        most = self._config.predicted
        if most is not None and most < size:
            generator = np.random.default_rng([self._seed, step, 1])
            others = generator.choice(others, max(0, most - len(used)), replace=False)
        return np.sort(np.concatenate([used, others]))
