"""Learn word vectors from texts: the meaning of tokens or words, apart from any model's embeddings.

They come from fastText (Bojanowski et al., arXiv 1607.04606), here gensim's: CBOW over words and their
character n-grams, with fastText's own defaults for settings that are no parameter. One thread and a fixed
seed make it deterministic.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import normal_rows, weighted
from tokenizer_tools.helper_model import tokenised
from tokenizer_tools.transfer import Texts, Transfer
from tokenizer_tools.vocabulary import Vocabulary

_WORD = re.compile(r"\w+|[^\w\s]")
_LONGEST = 10_000  # gensim cuts off longer lists of words
_NGRAM = (3, 6)
_BUCKETS = 2**20


class VectorParameters(NoParameters):
    """Settings of word vectors."""

    dimensions: int = Field(100, gt=0, description="Dimensions of the word vectors.")
    epochs: int = Field(10, gt=0, description="Passes over the text.")
    negative: int = Field(10, gt=0, description="Negative samples per word.")
    min_count: int = Field(5, gt=0, description="Lowest frequency of a word in the text that gets a vector.")
    tokens: int = Field(5_000_000, gt=0, description="Largest number of tokens of the text to read.")


@dataclass(frozen=True)
class WordVectors:
    """Vectors of learned words, and of character n-grams, which make the vectors of other words.

    Attributes:
        places: Row of each learned word, the most frequent word first.
        vectors_WD: Vectors of the words in float32.
        ngrams_BD: Vectors of the n-grams' hash buckets in float32.
        trained_B: True for buckets of n-grams in learned words.
    """

    places: dict[str, int]
    vectors_WD: np.ndarray
    ngrams_BD: np.ndarray
    trained_B: np.ndarray

    def of_learned(self, words: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors [len(words), D], zero for unknown words, and a mask of the known words."""
        rows = np.array([self.places.get(word, -1) if word else -1 for word in words], dtype=np.int64)
        known = rows >= 0
        vectors = np.zeros((len(rows), self.vectors_WD.shape[1]), dtype=np.float32)
        vectors[known] = self.vectors_WD[rows[known]]
        return vectors, known

    def of_any(self, words: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors as `of_learned`, but other words get the mean of their trained n-grams' vectors."""
        from gensim.models.fasttext import ft_ngram_hashes  # installed, since the vectors are gensim's

        vectors, known = self.of_learned(words)
        buckets = len(self.trained_B)
        others = [i for i, word in enumerate(words) if word and not known[i]]
        hashes = [np.array(ft_ngram_hashes(words[i], *_NGRAM, buckets), dtype=np.int64) for i in others]
        trained = [found[self.trained_B[found]] for found in hashes]
        counts = np.array([len(found) for found in trained], dtype=np.int64)
        columns = np.concatenate([np.empty(0, np.int64), *trained])
        shares = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(counts)])
        means = csr_matrix((shares, columns, starts), shape=(len(others), buckets)) @ self.ngrams_BD
        vectors[others], known[others] = means, counts > 0
        return vectors, known


def texts_of(transfer: Transfer) -> Texts:
    """Return the texts of a transfer.

    Raises:
        StageFailed: The transfer has none.
    """
    if transfer.texts is None:
        raise StageFailed(
            "these embeddings are learnt from texts, and there are none",
            hint="Give texts that the new vocabulary is for, or choose a method that needs none.",
        )
    return transfer.texts


def token_vectors(
    vocabulary: Vocabulary, texts: Iterable[str], parameters: VectorParameters, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Learn vectors of a vocabulary's tokens. Words are the bytes that tokens stand for, as text.

    Args:
        vocabulary: Vocabulary of the tokens.
        texts: Texts to learn from.
        parameters: Settings of the vectors.
        seed: Seed of the training.

    Returns:
        Vectors [V, D] float32, zero for tokens without one, and a mask [V] of the tokens that have one: those
        that occur `min_count` times.

    Raises:
        StageFailed: gensim is not installed, or no token occurs that often.
    """
    spellings = [
        surface.decode("utf-8", errors="backslashreplace") if surface else None
        for surface in vocabulary.surfaces
    ]
    documents = list(tokenised(vocabulary.tokenizer, texts, parameters.tokens))

    def words() -> Iterator[list[str]]:
        for ids in documents:
            yield [word for token_id in ids if (word := spellings[token_id]) is not None]

    return _learn(words, parameters, seed).of_learned(spellings)


def word_space(texts: Texts, parameters: VectorParameters, seed: int) -> WordVectors:
    """Learn vectors of the texts' words: runs of letters and digits, or one other character.

    Raises:
        StageFailed: gensim is not installed, or no word occurs often enough.
    """

    def words() -> Iterator[list[str]]:
        left = parameters.tokens
        for text in texts():
            found = _WORD.findall(text)[:left]
            yield found
            left -= len(found)
            if not left:
                break

    return _learn(words, parameters, seed)


def weighted_or_normal(weights_NV: csr_matrix, drawn_N: np.ndarray, like: np.ndarray, seed: int) -> Rule:
    """Return the rule that applies weights, and draws the rows `drawn_N` from N(mean, std) of rows `like`."""
    by_weights = weighted(weights_NV)

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = by_weights(matrix_VH, role)
        generator = torch.Generator().manual_seed(seed)
        drawn = normal_rows(matrix_VH[torch.from_numpy(like)], int(drawn_N.sum()), generator)
        made_NH[torch.from_numpy(drawn_N)] = drawn
        return made_NH

    return rows


class _Corpus:
    """Lists of words that gensim passes over several times."""

    def __init__(self, start: Callable[[], Iterator[list[str]]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[list[str]]:
        for words in self._start():
            for begin in range(0, len(words), _LONGEST):
                yield words[begin : begin + _LONGEST]


def _learn(start: Callable[[], Iterator[list[str]]], parameters: VectorParameters, seed: int) -> WordVectors:
    model = _fast_text()(
        vector_size=parameters.dimensions,
        negative=parameters.negative,
        min_count=parameters.min_count,
        alpha=0.05,
        sample=1e-4,
        bucket=_BUCKETS,
        min_n=_NGRAM[0],
        max_n=_NGRAM[1],
        seed=seed,
        workers=1,
        hashfxn=_stable_hash,
    )
    corpus = _Corpus(start)
    model.build_vocab(corpus)
    if not model.wv.index_to_key:
        raise StageFailed(
            f"the texts hold nothing {parameters.min_count} times, so there are no vectors to learn",
            hint="Lower min_count, or give more text.",
        )
    model.train(corpus, total_examples=model.corpus_count, epochs=parameters.epochs)
    trained_B = np.zeros(_BUCKETS, dtype=bool)
    trained_B[np.concatenate(model.wv.buckets_word).astype(np.int64)] = True
    return WordVectors(model.wv.key_to_index, model.wv.vectors, model.wv.vectors_ngrams, trained_B)


def _fast_text() -> Any:
    """Return gensim's class; its warnings on logging are silenced."""
    try:
        from gensim.models import FastText
    except ImportError as error:
        raise StageFailed("word vectors need gensim", hint="pip install 'cpt-workbench[vectors]'") from error
    logging.getLogger("gensim").setLevel(logging.ERROR)
    return FastText


def _stable_hash(text: str) -> int:
    return zlib.crc32(text.encode())
