"""Compute bits per byte of any text, by document and by source, with sliding windows.

Every byte is scored once, by the tokens that stand for it, and only scored bytes are counted. Longer
documents are cut into windows that repeat some text before them as context. With more context the score is
nearer to that of an unbounded memory, and takes longer. Compared models share their windows, so that each
byte has the same text before it under all of them (see `cpt.models.shared_windows`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import Encoding, Tokenizer

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.bits_per_byte import BATCH_TOKENS, Scores, TokenisedText, score
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.shared_windows import Reader, WindowBytes, cut_document, encoded, joined

_CHARACTERS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class TextScores:
    """Scores of one source's documents under one model, in their order.

    Attributes:
        ids: [documents] Origin of each document.
        nats: [documents] Negative log-likelihood of the scored tokens.
        bytes: [documents] Number of UTF-8 bytes that those tokens stand for.
        tokens: [documents] Number of scored tokens.
        unknown: [documents] Number of scored tokens that stand for text that the vocabulary cannot spell.
            Where there are any, bits per byte are too low to compare.
        all_bytes: [documents] Number of bytes of the whole text. Bytes are not scored if they belong to a
            first token that nothing precedes, or were dropped by the tokenizer.
    """

    ids: tuple[str, ...]
    nats: np.ndarray
    bytes: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray
    all_bytes: np.ndarray

    @property
    def total(self) -> Scores:
        """Return the documents in which anything was scored, as one text."""
        scored = self.bytes > 0
        return Scores(self.nats[scored], self.bytes[scored])

    @property
    def bits_per_byte(self) -> np.ndarray:
        """Compute the bits per byte of each document: [documents], NaN where nothing was scored."""
        with np.errstate(invalid="ignore"):
            return np.where(self.bytes > 0, self.nats / self.bytes, math.nan) / math.log(2)


@dataclass(frozen=True)
class WindowedSource:
    """A source's documents in windows that all readers share, stored in files.

    Attributes:
        ids: [documents] Origin of each document.
        all_bytes: [documents] Number of bytes of the whole text.
        bytes: [documents] Number of scored bytes, the same for all readers.
        tokens: [readers, documents] Number of scored tokens.
        unknown: [readers, documents] Number of scored tokens that stand for text that cannot be spelled.
        windows: Amount of text in the windows.
        work: [readers] Number of tokens that go through a model.
        chunks: Files with one text for each reader.
    """

    ids: tuple[str, ...]
    all_bytes: np.ndarray
    bytes: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray
    windows: WindowBytes
    work: tuple[int, ...]
    chunks: tuple[Path, ...]


def tokenise_source(
    readers: Sequence[Reader],
    documents: Iterable[Document],
    folder: Path,
    on_progress: Callable[[int], None] | None = None,
) -> WindowedSource:
    """Cut documents into windows; texts stream through, so that memory stays bounded.

    Args:
        readers: Different tokenizers, or the same with different windows.
        documents: Documents of the source.
        folder: New folder for the windows.
        on_progress: Function of the number of bytes done.

    Raises:
        DataError: There is nothing to score.
    """
    folder.mkdir(parents=True)
    unknown = [_unknown_id(reader.tokenizer) for reader in readers]
    ids: list[str] = []
    figures: list[tuple[int, ...]] = []  # per document: all bytes, bytes, tokens by reader, unknown by reader
    chunks: list[Path] = []
    windows, work, done = WindowBytes(), np.zeros(len(readers), dtype=np.int64), 0
    for chunk in _chunks(documents):
        encodings = encoded(readers, [each.text for each in chunk])
        cut = [
            cut_document(document.text, of_document, [reader.windows for reader in readers])
            for document, *of_document in zip(chunk, *encodings, strict=True)
        ]
        for document, each, *of_document in zip(chunk, cut, *encodings, strict=True):
            firsts = [
                int(first) if each.size else len(e) for first, e in zip(each.first, of_document, strict=True)
            ]
            size = len(document.text.encode())
            tokens = (len(e) - first for e, first in zip(of_document, firsts, strict=True))
            unspelt = (_count_tokens(*which) for which in zip(of_document, unknown, firsts, strict=True))
            ids.append(document.id)
            figures.append((size, each.size, *tokens, *unspelt))
            done += size
        shared = joined(cut)
        windows += shared.bytes
        work += [text.tokens for text in shared.texts]
        chunks.append(folder / f"{len(chunks)}.safetensors")
        _write(chunks[-1], shared.texts)
        if on_progress is not None:
            on_progress(done)
    table = np.asarray(figures, dtype=np.int64).reshape(len(ids), 2 + 2 * len(readers)).T
    if not table[1].any():
        raise DataError("there is no text to score")
    tokens_of, unknown_of = table[2 : 2 + len(readers)], table[2 + len(readers) :]
    return WindowedSource(
        tuple(ids), table[0], table[1], tokens_of, unknown_of, windows, tuple(work.tolist()), tuple(chunks)
    )


def score_source(
    model: PackedLanguageModel,
    source: WindowedSource,
    reader: int,
    batch_tokens: int = BATCH_TOKENS,
    on_progress: Callable[[int], None] | None = None,
) -> TextScores:
    """Score every document of a source under one model.

    Args:
        model: Model.
        source: Source in windows.
        reader: Index of the model's reader among the source's.
        batch_tokens: Number of tokens that go through the model together; the scores do not depend on it.
        on_progress: Function of the number of tokens, called after every pass through the model.
    """
    nats = []
    for chunk in source.chunks:
        nats.append(score(model, _read(chunk, reader), batch_tokens, on_progress).nats)
    return TextScores(
        ids=source.ids,
        nats=np.concatenate(nats),
        bytes=source.bytes,
        tokens=source.tokens[reader],
        unknown=source.unknown[reader],
        all_bytes=source.all_bytes,
    )


def _write(file: Path, texts: Sequence[TokenisedText]) -> None:
    """Write the windows of a chunk, one text for each reader."""
    arrays: dict[str, np.ndarray] = {}
    for which, text in enumerate(texts):
        parts = {
            "ids": np.concatenate([*text.windows, np.zeros(0, dtype=np.int64)]),
            "lengths": np.asarray([len(window) for window in text.windows], dtype=np.int64),
            "context": text.context,
            "document": text.document,
            "bytes": text.bytes,
        }
        arrays |= {f"{which}.{name}": array for name, array in parts.items()}
    save_file(arrays, file)


def _read(file: Path, reader: int) -> TokenisedText:
    """Read one reader's text of a chunk."""
    with safe_open(file, "numpy") as arrays:
        ids, lengths, context, document, size = (
            arrays.get_tensor(f"{reader}.{name}")
            for name in ("ids", "lengths", "context", "document", "bytes")
        )
    windows = np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else []
    return TokenisedText(windows, context, document, size)


def _count_tokens(encoding: Encoding, id: int | None, first: int) -> int:
    return 0 if id is None else encoding.ids[first:].count(id)


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token for text that the tokenizer cannot spell."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield documents in groups of bounded text (a longer document is a group of its own)."""
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
