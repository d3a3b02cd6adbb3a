"""Bits per byte over any text: by document and by source, with windows that slide.

Every byte is scored once, by the tokens that stand for it, and only bytes that were scored are counted: so
models with different tokenizers compare (see `cpt.monitor.bits_per_byte`). Documents longer than the model
reads at once are cut into windows that repeat `overlap` tokens of the text before them as context; the more
they repeat, the nearer the score is to that of an unbounded memory, and the longer it takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.monitor.bits_per_byte import (
    BATCH_TOKENS,
    Scores,
    TokenisedText,
    Windows,
    score,
    spanned_bytes,
    start_id,
    whole_character,
    whole_spans,
)
from cpt.packed.model import PackedLanguageModel

_CHARACTERS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class TextScores:
    """What a model makes of one source's documents, in their order.

    Attributes:
        ids: [documents] where each comes from.
        nats: [documents] negative log-likelihood of the scored tokens.
        bytes: [documents] UTF-8 bytes that those tokens stand for.
        tokens: [documents] scored tokens.
        unknown: [documents] scored tokens that stand for text the vocabulary cannot spell: where there are
            any, bits per byte are too low to compare.
        all_bytes: [documents] bytes of the whole text: what is not scored is a first token that nothing
            precedes, or was dropped by the tokenizer.
    """

    ids: tuple[str, ...]
    nats: np.ndarray
    bytes: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray
    all_bytes: np.ndarray

    @property
    def total(self) -> Scores:
        """The documents in which anything was scored, as one text."""
        scored = self.bytes > 0
        return Scores(self.nats[scored], self.bytes[scored])

    @property
    def bits_per_byte(self) -> np.ndarray:
        """[documents] bits per byte of each; NaN where nothing was scored."""
        with np.errstate(invalid="ignore"):
            return np.where(self.bytes > 0, self.nats / self.bytes, math.nan) / math.log(2)


def score_text(
    model: PackedLanguageModel,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    *,
    window: int,
    overlap: int,
    start_token: str | None,
    batch_tokens: int = BATCH_TOKENS,
    on_progress: Callable[[int], None] | None = None,
) -> TextScores:
    """Score every document of a source; texts stream through, so that memory stays bounded.

    Args:
        window: most tokens that the model reads at once, its start token included.
        overlap: tokens of the text before it that a window repeats as context.
        start_token: token that precedes every document and every window.
        batch_tokens: tokens that go through the model together; the scores do not depend on it.
        on_progress: called with the bytes of text done.

    Raises:
        DataError: there is nothing to score, or the settings leave a window no room for new tokens.
    """
    windows = Windows(window, start_id(tokenizer, start_token), overlap)
    unknown = _unknown_id(tokenizer)
    parts: list[TextScores] = []
    done = 0
    for chunk in _chunks(documents):
        part = _score_chunk(model, tokenizer, chunk, windows, unknown, batch_tokens)
        parts.append(part)
        done += int(part.all_bytes.sum())
        if on_progress is not None:
            on_progress(done)
    if not any(part.bytes.any() for part in parts):
        raise DataError("there is no text to score")
    arrays = ("nats", "bytes", "tokens", "unknown", "all_bytes")
    return TextScores(
        tuple(id for part in parts for id in part.ids),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
    )


def _score_chunk(
    model: PackedLanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    windows: Windows,
    unknown: int | None,
    batch_tokens: int,
) -> TextScores:
    with whole_spans(tokenizer):
        encodings = tokenizer.encode_batch([each.text for each in documents], add_special_tokens=False)
    firsts = [0 if windows.start is not None else whole_character(each, 1) for each in encodings]
    sizes = [
        spanned_bytes(document.text, encoding, first, len(encoding))
        for document, encoding, first in zip(documents, encodings, firsts, strict=True)
    ]
    cut = [
        (*window, owner)
        for owner, (encoding, first) in enumerate(zip(encodings, firsts, strict=True))
        for window in windows.cut(np.asarray(encoding.ids, dtype=np.int64), first)
    ]
    text = TokenisedText(
        windows=[ids for ids, _, _ in cut],
        context=np.asarray([context for _, context, _ in cut], dtype=np.int64),
        document=np.asarray([owner for _, _, owner in cut], dtype=np.int64),
        bytes=np.asarray(sizes),
    )
    return TextScores(
        ids=tuple(document.id for document in documents),
        nats=score(model, text, batch_tokens).nats,
        bytes=text.bytes,
        tokens=np.asarray([max(0, len(e) - first) for e, first in zip(encodings, firsts, strict=True)]),
        unknown=np.asarray(
            [_count(e, unknown, first) for e, first in zip(encodings, firsts, strict=True)], dtype=np.int64
        ),
        all_bytes=np.asarray([len(document.text.encode()) for document in documents]),
    )


def _count(encoding: Encoding, id: int | None, first: int) -> int:
    return 0 if id is None else encoding.ids[first:].count(id)


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the token that the tokenizer's model gives to what it cannot spell."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in groups of bounded text (a longer document is a group of its own)."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if size >= _CHARACTERS_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
