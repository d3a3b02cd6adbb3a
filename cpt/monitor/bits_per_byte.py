"""Bits per byte: the one loss that compares across tokenizers.

A text's bits per byte are the nats of its own tokens, divided by ln 2 and by the UTF-8 bytes that those
tokens stand for. Document ends are not text and are not counted; a first token that nothing precedes is
not predicted, so its bytes are not counted either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.packed.batch import pack
from cpt.packed.model import PackedLanguageModel

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TokenisedText:
    """Documents cut into windows that a model can read.

    Attributes:
        windows: token ids; the first token of each window is context only.
        document: [windows] index of the document that each window belongs to.
        bytes: [documents] UTF-8 bytes of the tokens that are scored.
    """

    windows: list[np.ndarray]
    document: np.ndarray
    bytes: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, context included."""
        return sum(len(window) for window in self.windows)


@dataclass(frozen=True)
class Scores:
    """What a model makes of a text: per document, nats and the bytes that they are spent on."""

    nats: np.ndarray
    bytes: np.ndarray

    @property
    def bits_per_byte(self) -> float:
        """Σ nats / (ln 2 · Σ bytes)."""
        return float(self.nats.sum() / self.bytes.sum() / math.log(2))

    @property
    def standard_error(self) -> float:
        """Standard error of `bits_per_byte` as a ratio estimator over documents; NaN for one document."""
        count = len(self.nats)
        if count < 2:
            return math.nan
        residuals = self.nats - self.nats.sum() / self.bytes.sum() * self.bytes
        variance = count / (count - 1) * float((residuals**2).sum())
        return math.sqrt(variance) / float(self.bytes.sum()) / math.log(2)


def tokenise_text(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    window: int,
    start_token: str | None,
    max_tokens: int | None = None,
) -> TokenisedText:
    """Cut documents into windows of at most `window` tokens, the first of which is context.

    Args:
        start_token: token that precedes every document and every later window; without one a later window
            starts with the last token of the window before it, and a document's first token is not scored.
        max_tokens: take whole documents until their tokens exceed this; the last one is cut to a window.
    """
    start = None if start_token is None else tokenizer.token_to_id(start_token)
    if start_token is not None and start is None:
        raise DataError(f"the tokenizer has no token {start_token!r}")
    windows: list[np.ndarray] = []
    owners: list[int] = []
    sizes: list[int] = []
    left = math.inf if max_tokens is None else max_tokens
    for text in texts:
        if left <= 0:
            break
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = np.asarray(encoding.ids, dtype=np.int64)
        if start is not None:
            ids = np.concatenate([[start], ids])
        if len(ids) < 2:
            continue
        taken = int(min(len(ids), max(left, 2)))
        unscored = 0 if start is not None else encoding.offsets[0][1]
        scored_to = encoding.offsets[taken - 1 - (start is not None)][1]
        size = len(text[unscored:scored_to].encode())
        if size == 0:
            continue
        windows.extend(_windows(ids[:taken], window, start))
        owners.extend([len(sizes)] * (len(windows) - len(owners)))
        sizes.append(size)
        left -= taken
    if not windows:
        raise DataError("there is no text to score")
    return TokenisedText(windows, np.asarray(owners), np.asarray(sizes))


def _windows(ids: np.ndarray, window: int, start: int | None) -> list[np.ndarray]:
    """Windows in which every token but the first of `ids` is predicted exactly once."""
    cut = []
    for begin in range(1, len(ids), window - 1):
        context = ids[begin - 1] if start is None or begin == 1 else start
        cut.append(np.concatenate([[context], ids[begin : begin + window - 1]]))
    return cut


@torch.no_grad()
def score(model: PackedLanguageModel, text: TokenisedText, batch_tokens: int = BATCH_TOKENS) -> Scores:
    """Nats of every document under a model."""
    nats = np.zeros(len(text.bytes))
    device = next(model.parameters()).device
    order = sorted(range(len(text.windows)), key=lambda index: len(text.windows[index]))
    while order:
        chosen: list[int] = []
        total = 0
        while order and (not chosen or total + len(text.windows[order[-1]]) <= batch_tokens):
            chosen.append(order.pop())
            total += len(text.windows[chosen[-1]])
        batch = pack([text.windows[index] for index in chosen]).to(device)
        per_token = model.token_nats(batch).double().cpu().numpy()
        lengths = [len(text.windows[index]) for index in chosen]
        sums = np.add.reduceat(per_token, np.cumsum([0, *lengths[:-1]]))
        np.add.at(nats, text.document[chosen], sums)
    return Scores(nats, text.bytes)
