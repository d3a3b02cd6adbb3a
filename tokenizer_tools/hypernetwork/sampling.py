"""Sample tokenizers from text, so that a hypernetwork meets another vocabulary in every training step.

A sampled tokenizer is a Unigram model over byte-level words. Its tokens are substrings of the words of a
queue of recent texts. Their probabilities are substring counts times lengths, with noise of a scale that is
drawn anew for each tokenizer. Source: Minixhofer, Ponti, Vulić, "Zero-Shot Tokenizer Transfer"
(arXiv 2405.07883, section 3.2).

Shapes: P different words, T bytes of all of them, M starts of substrings, K substrings, S different ones.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cpt.references.tiktoken import byte_alphabet, spell
from tokenizer_tools.hypernetwork.training.settings import SamplingConfig

_KEY_BYTES = 16
"""Bytes of a substring's key: up to 15 of the substring, then its length."""

_IMPOSSIBLE = -1e5
"""Log-probability of a token whose noisy probability is not positive."""

_WHITESPACE = (b" ", b"\n", b"\t")


@dataclass(frozen=True)
class SampledTokenizer:
    """A sampled tokenizer.

    Attributes:
        tokens: Bytes of every token by id: single bytes, then runs of whitespace, then substrings, the
            likeliest first.
        log_probabilities: [V] float64 scores of the Unigram model in nats. 0 for runs of whitespace.
        noise: Standard deviation z of the noise that its probabilities have.
        tokenizer: Tokenizer that cuts text into words as GPT-2 does, and words into these tokens. It spells
            every byte.
    """

    tokens: Sequence[bytes]
    log_probabilities: np.ndarray
    noise: float
    tokenizer: Tokenizer


class TokenizerSampler:
    """A queue of texts, and the tokenizers sampled from it.

    A tokenizer is a pure function of the seed, the step, and the texts in the queue.
    """

    def __init__(self, config: SamplingConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._queue: deque[Counter[str]] = deque()
        self._counts: Counter[str] = Counter()  # of words, spelt in the byte alphabet
        self._words = _words()

    def push(self, texts: Iterable[str]) -> None:
        """Add texts to the queue, and drop the oldest ones beyond its size."""
        for text in texts:
            counts = Counter(word for word, _ in self._words.pre_tokenize_str(text))
            self._queue.append(counts)
            self._counts.update(counts)
            if len(self._queue) > self._config.queue:
                self._drop(self._queue.popleft())

    def _drop(self, counts: Counter[str]) -> None:
        for word, count in counts.items():
            self._counts[word] -= count
            if not self._counts[word]:
                del self._counts[word]  # or the table would grow with all words ever seen

    def noise(self, step: int) -> float:
        """Return the standard deviation z of a step's noise: ln z ~ N(ln `noise`, `noise_spread`)."""
        return self._draw(step)[0]

    def _draw(self, step: int) -> tuple[float, np.random.Generator]:
        generator = np.random.default_rng([self._seed, step])
        exponent = self._config.noise_spread * generator.standard_normal()
        return self._config.noise * float(np.exp(exponent)), generator

    def sample(self, step: int) -> SampledTokenizer:
        """Sample the tokenizer of a step from the texts in the queue.

        It has fewer tokens than `vocabulary` if the queue has fewer substrings.
        """
        runs = whitespace_runs(self._config.longest)
        keys_S2, scores_S = substring_scores(self._counts, self._config.longest, self._config.stride)
        total = max(1, int(scores_S.sum()))
        lowest = max(1, int(scores_S.min(initial=total)))
        is_new_S = ~_kept_anyway(keys_S2)
        keys_S2, scores_S = keys_S2[is_new_S], scores_S[is_new_S]
        z, generator = self._draw(step)
        p_S = scores_S / total + z * generator.standard_normal(len(scores_S))
        best = _largest(p_S, self._config.vocabulary - 256 - len(runs))
        log_p = np.full(len(best), _IMPOSSIBLE)
        np.log(p_S[best], out=log_p, where=p_S[best] > 0)
        tokens = [*(bytes([byte]) for byte in range(256)), *runs, *_substrings(keys_S2[best])]
        of_byte = np.full(256, np.log(lowest / total))
        log_probabilities = np.concatenate([of_byte, np.zeros(len(runs)), log_p])
        return SampledTokenizer(tokens, log_probabilities, z, _unigram(tokens, log_probabilities))


@cache
def whitespace_runs(longest: int) -> tuple[bytes, ...]:
    """Return runs of one space, newline or tab after any of the three: 2 to `longest` bytes."""
    return tuple(
        first + rest * count for rest in _WHITESPACE for count in range(1, longest) for first in _WHITESPACE
    )


def substring_scores(counts: Counter[str], longest: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the substrings of words: a substring's score is its frequency times its length in bytes.

    Substrings start at every `stride`-th character of a word, the first among them, and end at any byte.

    Args:
        counts: Frequency of each word, spelt in the byte alphabet of GPT-2.
        longest: Most bytes of a substring.
        stride: Characters from one start to the next.

    Returns:
        Keys [S, 2] uint64 in the order of the substrings' bytes, and scores [S] int64.
    """
    if not counts:
        return np.zeros((0, 2), np.uint64), np.zeros(0, np.int64)
    lengths_P = np.fromiter(map(len, counts), np.int64, len(counts))
    counts_P = np.fromiter(counts.values(), np.int64, len(counts))
    bytes_T = np.frombuffer("".join(counts).translate(_to_latin_1()).encode("latin-1"), np.uint8)
    ends_P = lengths_P.cumsum()
    word_T = np.repeat(np.arange(len(lengths_P)), lengths_P)
    begins_character_T = (bytes_T & 0xC0) != 0x80  # UTF-8: others continue a character
    character_T = begins_character_T.cumsum()
    place_T = character_T - character_T[ends_P - lengths_P][word_T]
    starts_M = np.flatnonzero(begins_character_T & (place_T % stride == 0))
    room_M = np.minimum(ends_P[word_T[starts_M]] - starts_M, longest)
    padded = np.concatenate([bytes_T, np.zeros(_KEY_BYTES, np.uint8)])
    windows_M16 = np.lib.stride_tricks.sliding_window_view(padded, _KEY_BYTES)[starts_M]
    of_start_K = np.repeat(np.arange(len(starts_M)), room_M)
    length_K = np.arange(len(of_start_K)) - np.repeat(room_M.cumsum() - room_M, room_M) + 1
    keys_K16 = windows_M16[of_start_K]
    keys_K16[np.arange(_KEY_BYTES) >= length_K[:, None]] = 0
    keys_K16[:, -1] = length_K
    scores_K = counts_P[word_T[starts_M]][of_start_K] * length_K
    return _summed(keys_K16.view(">u8").astype(np.uint64), scores_K)


def _summed(keys_K2: np.ndarray, scores_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the scores of equal keys; keys come back sorted."""
    order_K = np.lexsort((keys_K2[:, 1], keys_K2[:, 0]))
    keys_K2 = keys_K2[order_K]
    is_first_K = np.ones(len(keys_K2), dtype=bool)
    is_first_K[1:] = (keys_K2[1:] != keys_K2[:-1]).any(axis=1)
    first_S = np.flatnonzero(is_first_K)
    return keys_K2[first_S], np.add.reduceat(scores_K[order_K], first_S)


def _bytes_of(keys_S2: np.ndarray) -> np.ndarray:
    """Return the bytes [S, 16] of keys."""
    return keys_S2.astype(">u8").view(np.uint8).reshape(-1, _KEY_BYTES)


def _kept_anyway(keys_S2: np.ndarray) -> np.ndarray:
    """Return True [S] for single bytes, and for substrings with two or more spaces, newlines or tabs."""
    bytes_S16 = _bytes_of(keys_S2)
    is_text = np.arange(_KEY_BYTES) < bytes_S16[:, -1:]
    is_space = np.isin(bytes_S16, np.frombuffer(b"".join(_WHITESPACE), np.uint8)) & is_text
    found: np.ndarray = (bytes_S16[:, -1] == 1) | (is_space.sum(axis=1) >= 2)
    return found


def _substrings(keys_S2: np.ndarray) -> list[bytes]:
    rows = _bytes_of(keys_S2)
    return [row[:length] for row, length in zip(map(bytes, rows), rows[:, -1].tolist(), strict=True)]


def _largest(values_S: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the largest values, in descending order; of equal ones the first come first."""
    order_S: np.ndarray = np.argsort(-values_S, kind="stable")
    return order_S[:count]


def _words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


@cache
def _to_latin_1() -> dict[int, int]:
    """Return the byte of each character of the byte alphabet, for `str.translate`."""
    return {ord(character): byte for byte, character in enumerate(byte_alphabet())}


def _unigram(tokens: Sequence[bytes], log_probabilities: np.ndarray) -> Tokenizer:
    pieces = zip(map(spell, tokens), log_probabilities.tolist(), strict=True)
    tokenizer = Tokenizer(models.Unigram(list(pieces)))
    tokenizer.pre_tokenizer = _words()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
