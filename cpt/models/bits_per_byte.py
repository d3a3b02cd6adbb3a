"""Bits per byte: the one loss that compares across tokenizers.

A text's bits per byte are the nats of its own tokens, divided by ln 2 and by the UTF-8 bytes that those
tokens stand for. Document ends are not text and are not counted; a first token that nothing precedes is
not predicted, so its bytes (its whole first character, if several tokens spell it) are not counted either,
nor is what a tokenizer drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from cpt.errors import DataError
from cpt.models.batch import PackedBatch, pack
from cpt.models.packed_model import PackedLanguageModel, Readers

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Windows:
    """Settings by which documents longer than a model can read are cut.

    Attributes:
        size: most tokens of a window.
        start: id of the token that precedes every document and every later window; without one a later
            window starts with the last token of the window before it, and a document's first is not scored.
        overlap: tokens of the window before that every later window repeats, as context that is not scored.
    """

    size: int
    start: int | None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.room - self.back < 1:
            raise DataError(
                f"windows of {self.size} tokens that repeat {self.overlap} have no room for new ones",
                hint="Choose a longer window, or a smaller overlap.",
            )

    @property
    def _lead(self) -> int:
        return int(self.start is not None)

    @property
    def room(self) -> int:
        """Return the largest number of text tokens in a window."""
        return self.size - self._lead

    @property
    def least(self) -> int:
        """Return the fewest tokens of earlier text that a prediction needs."""
        return 1 - self._lead

    @property
    def back(self) -> int:
        """Return the number of tokens of earlier text at the start of every later window."""
        return max(self.overlap, self.least)

    def reach(self, count: int) -> int:
        """Return the number of a document's tokens in this number of windows, without context."""
        return count * self.room - max(0, count - 1) * self.back

    def cut(self, ids: np.ndarray, first: int) -> Iterator[tuple[np.ndarray, int]]:
        """Return windows in which every token of a document from `first` on is predicted exactly once.

        Yields:
            The window's ids, and how many at its beginning are context.
        """
        lead = [] if self.start is None else [self.start]
        begin, back = 0, 0
        while begin < len(ids):
            end = begin + self.room - back
            window = np.concatenate([lead, ids[begin - back : end]]).astype(np.int64)
            context = self._lead + max(begin, first) - (begin - back)
            if context < len(window):
                yield window, context
            begin, back = end, self.back


@dataclass(frozen=True)
class TokenisedText:
    """Documents cut into windows that a model can read.

    Attributes:
        windows: token ids of each.
        context: [windows] tokens at the beginning of each that are context only, at least one.
        document: [windows] index of the document that each window belongs to.
        bytes: [documents] UTF-8 bytes of the tokens that are scored.
    """

    windows: list[np.ndarray]
    context: np.ndarray
    document: np.ndarray
    bytes: np.ndarray

    @property
    def tokens(self) -> int:
        """Return the tokens that go through the model, context included."""
        return sum(len(window) for window in self.windows)

    def first(self, documents: int) -> TokenisedText:
        """Return the first documents."""
        windows = int(np.searchsorted(self.document, documents))
        return TokenisedText(
            self.windows[:windows], self.context[:windows], self.document[:windows], self.bytes[:documents]
        )


@dataclass(frozen=True)
class Scores:
    """Scores of a text by document: nats, and the bytes that they are spent on."""

    nats: np.ndarray
    bytes: np.ndarray

    @property
    def bits_per_byte(self) -> float:
        """Return Σ nats / (ln 2 · Σ bytes)."""
        return float(self.nats.sum() / self.bytes.sum() / math.log(2))

    @property
    def standard_error(self) -> float:
        """Return the standard error of `bits_per_byte` as a ratio estimator; NaN for one document."""
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
) -> TokenisedText:
    """Cut documents into windows of at most `window` tokens; documents with nothing to score are passed over.

    Args:
        start_token: token that precedes every document and every later window (see `Windows`).
    """
    windows = Windows(window, start_id(tokenizer, start_token))
    cut: list[tuple[np.ndarray, int]] = []
    owners: list[int] = []
    sizes: list[int] = []
    with whole_spans(tokenizer):
        for text in texts:
            encoding = tokenizer.encode(text, add_special_tokens=False)
            ids = np.asarray(encoding.ids, dtype=np.int64)
            first = 0 if windows.start is not None else whole_character(encoding, 1)
            size = spanned_bytes(text, encoding, first, len(ids))
            if size == 0:
                continue
            cut.extend(windows.cut(ids, first))
            owners.extend([len(sizes)] * (len(cut) - len(owners)))
            sizes.append(size)
    if not cut:
        raise DataError("there is no text to score")
    context = np.asarray([context for _, context in cut])
    return TokenisedText([ids for ids, _ in cut], context, np.asarray(owners), np.asarray(sizes))


def start_id(tokenizer: Tokenizer, token: str | None) -> int | None:
    """Return the id of a start token.

    Raises:
        DataError: the tokenizer has no such token.
    """
    found: int | None = None if token is None else tokenizer.token_to_id(token)
    if token is not None and found is None:
        raise DataError(f"the tokenizer has no token {token!r}")
    return found


@contextmanager
def whole_spans(tokenizer: Tokenizer) -> Iterator[None]:
    """Let tokens span the whitespace that they stand for; some post-processors trim it from their offsets."""
    kept = tokenizer.post_processor
    tokenizer.post_processor = None
    try:
        yield
    finally:
        tokenizer.post_processor = kept


def whole_character(encoding: Encoding, index: int) -> int:
    """Return the first token from `index` on that does not continue a character of the token before."""
    spans = encoding.offsets
    while index < len(spans) and spans[index][0] < spans[index - 1][1]:
        index += 1
    return index


def spanned_bytes(text: str, encoding: Encoding, first: int, last: int) -> int:
    """Return the UTF-8 bytes of the characters of tokens `first` to `last` - 1, each counted once.

    Args:
        encoding: of the text, made within `whole_spans`.
    """
    if first >= last:
        return 0
    spans = np.asarray(encoding.offsets[first:last], dtype=np.int64)  # [tokens, 2] in characters
    ends = np.maximum.accumulate(spans[:, 1])
    begins = np.maximum(spans[:, 0], np.concatenate([spans[:1, 0], ends[:-1]]))
    at = byte_offsets(text)
    return int((at[ends] - at[np.minimum(begins, ends)]).sum())


def byte_offsets(text: str) -> np.ndarray:
    """Return the UTF-8 byte offset of each character and of the end [characters + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], widths.cumsum()])


@torch.no_grad()
def score(
    model: PackedLanguageModel,
    text: TokenisedText,
    batch_tokens: int = BATCH_TOKENS,
    on_progress: Callable[[int], None] | None = None,
    readers: Readers | None = None,
) -> Scores:
    """Return the nats of every document under a model.

    Args:
        batch_tokens: most tokens that go through the model together.
        on_progress: called with the number of tokens after every pass through the model.
        readers: processes that have the same model and text, and call this together. Each reads some of the
            batches, and all get all scores.
    """
    nats = np.zeros(len(text.bytes))
    device = next(model.parameters()).device
    order = sorted(range(len(text.windows)), key=lambda index: len(text.windows[index]))
    number = 0
    while order:
        chosen: list[int] = []
        total = 0
        while order and (not chosen or total + len(text.windows[order[-1]]) <= batch_tokens):
            chosen.append(order.pop())
            total += len(text.windows[chosen[-1]])
        number += 1
        if readers and number % readers.count != readers.rank:
            continue
        batch = _pack([text.windows[index] for index in chosen], text.context[chosen])
        per_token = model.per_token_loss(batch.to(device)).double().cpu().numpy()
        lengths = [len(text.windows[index]) for index in chosen]
        sums = np.add.reduceat(per_token, np.cumsum([0, *lengths[:-1]]))
        np.add.at(nats, text.document[chosen], sums)
        if on_progress is not None:
            on_progress(total)
    if readers:
        nats = readers.sum(torch.from_numpy(nats).to(device)).cpu().numpy()
    return Scores(nats, text.bytes)


def _pack(windows: list[np.ndarray], context: np.ndarray) -> PackedBatch:
    """Return a packed batch of windows whose context positions have no target, so that none is scored."""
    batch = pack(windows)
    within = torch.cat([torch.arange(len(window)) for window in windows])  # [T]
    needed = torch.repeat_interleave(torch.from_numpy(context), torch.tensor([len(w) for w in windows]))
    return replace(
        batch, target_positions=batch.target_positions[(within >= needed - 1)[batch.target_positions]]
    )
