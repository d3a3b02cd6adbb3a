"""Tokenise the documents of a corpus folder, count them, and pack training text into shards."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpt.corpus.document_columns import PlainDocuments
from cpt.corpus.document_tokenizer import DocumentTokenizer, characters, follow_special_token
from cpt.corpus.documents import (
    PART,
    Document,
    documents_path,
    parts_of,
    read_documents,
)
from cpt.corpus.examples import LISTINGS
from cpt.corpus.index import CorpusIndex, SourceCounts, SplitCounts, byte_count, read_index, write_index
from cpt.corpus.items import read_items, write_items
from cpt.corpus.links import link
from cpt.corpus.recall import RECALL
from cpt.corpus.sequence_counts import counted_at
from cpt.corpus.shards import ShardWriter
from cpt.corpus.tasks import Tasks, Work
from cpt.corpus.tokenised_source import TokenisedSource
from cpt.errors import DataError
from cpt.models.tokenizer import FILE
from cpt.models.tokenizer import FILE as TOKENIZER
from cpt.progress import Progress


def tokenizer_sha256(model: Path) -> str:
    """Return the SHA-256 of a model folder's tokenizer.json."""
    return hashlib.sha256((model / FILE).read_bytes()).hexdigest()


class _Tokenised(NamedTuple):
    """A tokenised document.

    Attributes:
        pieces: uint32 (tokens,) each.
        weights: Loss weights of the pieces, float16 (tokens,) each; None if all are 1.
        part: Named part of the domain; empty without parts.
        bytes: Bytes of its text in UTF-8.
        ended: Whether an end token follows.
        marked: Whether it is a rendered conversation.
    """

    pieces: list[np.ndarray]
    weights: list[np.ndarray] | None
    part: str
    bytes: int
    ended: bool
    marked: bool


class _Batch(NamedTuple):
    """Tokenised documents, in few arrays, since many small ones take long between processes.

    Attributes:
        tokens: uint32 (tokens,), all pieces one after the other.
        weights: float16 (tokens of documents with loss weights,), the weights of theirs.
        weighted: bool (documents,).
        lengths: int64 (pieces,).
        counts: int64 (documents,), number of pieces of each document.
        parts: str (documents,).
        bytes: int64 (documents,).
        ended: bool (documents,).
        marked: bool (documents,).
    """

    tokens: np.ndarray
    weights: np.ndarray
    weighted: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    parts: np.ndarray
    bytes: np.ndarray
    ended: np.ndarray
    marked: np.ndarray

    def documents(self) -> Iterator[_Tokenised]:
        """Yield each document."""
        pieces = np.split(self.tokens, np.cumsum(self.lengths)[:-1])
        weights = iter(np.split(self.weights, np.cumsum(self.lengths[self._weighted_pieces])[:-1]))
        ends = np.cumsum(self.counts).tolist()
        facts = (self.parts.tolist(), self.bytes.tolist(), self.ended.tolist(), self.marked.tolist())
        columns = ([0, *ends[:-1]], ends, self.weighted.tolist(), *facts)
        for begin, end, is_weighted, *others in zip(*columns, strict=True):
            own = [next(weights) for _ in range(begin, end)] if is_weighted else None
            yield _Tokenised(pieces[begin:end], own, *others)

    @property
    def _weighted_pieces(self) -> np.ndarray:
        """Return which pieces have loss weights: bool (pieces,)."""
        return np.repeat(self.weighted, self.counts)


def _batch_tokenizer(
    model: Path, sequence_length: int, start_token: str | None, end_token: str | None
) -> Callable[[list[Document]], _Batch]:
    """Return the function that tokenises a batch."""
    tokenizer = DocumentTokenizer(model, sequence_length, start_token, end_token)

    def tokenise_batch(documents: list[Document]) -> _Batch:
        found = list(tokenizer.batch(documents))
        pieces = [piece for document, _ in found for piece in document]
        weights = [piece for _, weights in found if weights is not None for piece in weights]
        return _Batch(
            np.concatenate(pieces),
            np.concatenate([np.zeros(0, np.float16), *weights]),
            np.array([weights is not None for _, weights in found]),
            np.array([len(piece) for piece in pieces], dtype=np.int64),
            np.array([len(document) for document, _ in found], dtype=np.int64),
            np.array([document.part for document in documents], dtype=np.str_),
            np.array([byte_count(document.text) for document in documents], dtype=np.int64),
            np.array([document.ended for document in documents]),
            np.array([document.marked for document in documents]),
        )

    return tokenise_batch


def _write_batches(path: Path, key: str, batches: list[_Batch]) -> None:
    """Write the results of a task: the arrays of a batch, and `key` as bytes."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches]) for name in _Batch._fields
    }
    with path.open("wb") as file:
        np.savez(file, key=np.frombuffer(key.encode(), dtype=np.uint8), **arrays)


def _read_batches(path: Path) -> tuple[str, list[_Batch]]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["key"].tobytes().decode(), [_Batch(*(arrays[name] for name in _Batch._fields))]


def _tokenising(model: Path, index: CorpusIndex) -> Work[Document, _Batch]:
    """Return the work of tokenising with a model's tokenizer."""
    return Work(
        prepare=_batch_tokenizer,
        arguments=(model, index.sequence_length, index.start_token, index.end_token),
        size=characters,
        content=repr,
        write_items=write_items,
        read_items=read_items,
        write_results=_write_batches,
        read_results=_read_batches,
    )


FORMER = "former"
"""Folder in a corpus with the tokenizer.json from before its vocabulary changed."""


def tokens_path(corpus: Path, source: str) -> Path:
    """Return the folder of a corpus with the packed training sequences of a source."""
    return corpus / "tokens" / source


def open_source(corpus: Path, source: str, *, tell_plain: bool = False) -> TokenisedSource:
    """Open the packed training sequences of one source of a corpus folder, of all its parts.

    A source that is open already, and has not changed, is the same object: what was counted is known.

    Args:
        source: "domain", or one part of it, "domain.notes".
        tell_plain: Let sequences say which of their pieces are neither study documents nor conversations.

    Raises:
        DataError: The corpus has none.
    """
    folders = parts_of(corpus / "tokens", source) or [tokens_path(corpus, source)]
    return _opened(corpus, source, tell_plain, tuple((folder, counted_at(folder)) for folder in folders))


@lru_cache(maxsize=16)
def _opened(
    corpus: Path, source: str, tell_plain: bool, folders: tuple[tuple[Path, object], ...]
) -> TokenisedSource:
    plain = PlainDocuments(corpus, source.partition(PART)[0]) if tell_plain else None
    return TokenisedSource(*(folder for folder, _ in folders), name=source, plain=plain)


def part_names(corpus: Path, source: str) -> list[str]:
    """Return the names of a source's parts that have training sequences, in order; none without parts."""
    folders = parts_of(corpus / "tokens", source)
    return [part for folder in folders if (part := folder.name.partition(PART)[2])]


def tokenise(
    corpus: Path,
    index: CorpusIndex,
    model: Path,
    progress: Progress | None = None,
    tasks: Tasks | None = None,
) -> CorpusIndex:
    """Tokenise all documents of a corpus folder, write `tokens/` and `corpus.json`.

    Training splits are packed and stored; held-out splits are only counted.

    Args:
        corpus: Folder with `documents/`.
        index: Counts of documents, with sequence length and special tokens.
        model: Folder with the tokenizer.
        tasks: Place where the work is done; by default this process, in as many threads as there are
            processors.

    Returns:
        The index with tokens, pieces and sequences counted, as written.
    """
    work = _tokenising(model, index)
    tasks = tasks or Tasks()
    result = index.model_copy(deep=True, update={"tokenizer": tokenizer_sha256(model)})
    total = sum(counts.documents for source in index.sources.values() for counts in source.splits.values())
    done = 0
    for name, source in result.sources.items():
        for split, counts in source.splits.items():
            counts.tokens = counts.pieces = counts.sequences = counts.tokens_without_loss = 0
            packer = _Packer(corpus, name, source, index.sequence_length) if split == "train" else None
            before, place = done, tasks.kept_in(f"tokens-{name}-{split}")
            for batch in place.map(work, read_documents(corpus, name, split)):
                for document in batch.documents():
                    _count(counts, document)
                    if packer is not None:
                        packer.add(document)
                    done += 1
                    if progress is not None and (done % 1000 == 0 or done == total):
                        progress.update(done, total, "documents")
            if done - before != counts.documents:
                raise DataError(
                    f"{name}: {done - before:,} {split} documents, but {counts.documents:,} are counted",
                    hint="Please report this.",
                )
            if packer is not None:
                counts.sequences = packer.close()
    write_index(corpus, result)
    return result


class _Packer:
    """A writer of one source's shards, those of each part in a folder of their own; it counts the parts."""

    def __init__(self, corpus: Path, name: str, counts: SourceCounts, sequence_length: int) -> None:
        self._corpus, self._name, self._length = corpus, name, sequence_length
        self._writers: dict[str, ShardWriter] = {}
        self._part = ""
        self._documents = 0
        self._counts = counts.parts
        self._counts.clear()

    def add(self, document: _Tokenised) -> None:
        """Add a document. When another part begins, the last one's pieces are packed: one is in memory."""
        part = document.part
        if part != self._part and self._part in self._writers:
            self._writers[self._part].close()
        self._part = part
        if part not in self._writers:
            folder = tokens_path(self._corpus, f"{self._name}{PART}{part}" if part else self._name)
            self._writers[part] = ShardWriter(folder, self._length)
        self._writers[part].add(document.pieces, self._documents, document.weights)
        self._documents += 1
        if part:
            counts = self._counts.setdefault(part, SplitCounts())
            counts.documents += 1
            counts.bytes += document.bytes
            counts.cut += not document.ended
            counts.marked += document.marked
            _count(counts, document)

    def close(self) -> int:
        """Pack what is left; return the number of sequences of all parts."""
        for part, writer in self._writers.items():
            writer.close()
            if part:
                self._counts[part].sequences = writer.sequences
        return sum(writer.sequences for writer in self._writers.values())


def _count(counts: SplitCounts, document: _Tokenised) -> None:
    counts.pieces += len(document.pieces)
    counts.tokens += sum(map(len, document.pieces))
    if document.weights is not None:
        counts.tokens_without_loss += sum(int(np.count_nonzero(piece == 0)) for piece in document.weights)


def retokenise(
    corpus: Path, model: Path, output: Path, progress: Progress | None = None, *, former: Path
) -> CorpusIndex:
    """Tokenise the same documents with another tokenizer. Documents are hard-linked (or copied).

    The corpus keeps its first tokenizer (`FORMER`), to sample and cut text as with that.

    Args:
        corpus: Existing corpus folder.
        model: Folder with the other tokenizer.
        output: New corpus folder.
        former: Folder with the present tokenizer of the corpus. A start or end token that is its own bos or
            eos is replaced by the other tokenizer's.

    Raises:
        DataError: The tokenizer lacks the start or end token, and has none of its role.
    """
    index = read_index(corpus)
    tokens = {
        "start_token": follow_special_token(index.start_token, former, model, "bos"),
        "end_token": follow_special_token(index.end_token, former, model, "eos"),
    }
    earliest = corpus / FORMER
    tokens["former_start_token"] = index.former_start_token if earliest.is_dir() else index.start_token
    index = index.model_copy(update=tokens)
    (output / FORMER).mkdir(parents=True)
    shutil.copyfile((earliest if earliest.is_dir() else former) / TOKENIZER, output / FORMER / TOKENIZER)
    for listing in (*LISTINGS, RECALL):
        if (corpus / listing).exists():
            link(corpus / listing, output / listing)
    for name, source in index.sources.items():
        for split in source.splits:
            link(documents_path(corpus, name, split), documents_path(output, name, split))
    return tokenise(output, index, model, progress)
