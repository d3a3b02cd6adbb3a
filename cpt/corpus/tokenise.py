"""Tokenise the documents of a corpus folder, count them, and pack training text into shards."""

from __future__ import annotations

import difflib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from cpt.corpus.documents import PART, Document, documents_path, parts_of, read_documents
from cpt.corpus.examples import LISTINGS
from cpt.corpus.index import CorpusIndex, SourceCounts, SplitCounts, byte_count, read_index, write_index
from cpt.corpus.items import read_items, write_items
from cpt.corpus.shards import ShardWriter, TokenisedSource, split_document
from cpt.corpus.steps import link
from cpt.corpus.tasks import Tasks, Work
from cpt.corpus.workers import chunked
from cpt.errors import DataError, UsageError
from cpt.models.encoding import token_ids, tokens_with_spans
from cpt.models.tokenizer import FILE, load_tokenizer, special_tokens
from cpt.models.tokenizer import FILE as TOKENIZER
from cpt.progress import Progress

AUTO = "auto"
"""The choice of the tokenizer's own bos or eos token."""


def tokenizer_sha256(model: Path) -> str:
    """Return the SHA-256 of a model folder's tokenizer.json."""
    return hashlib.sha256((model / FILE).read_bytes()).hexdigest()


def special_token(model: Path, choice: str | None, role: Literal["bos", "eos"]) -> str | None:
    """Return the token that starts (bos) or ends (eos) documents.

    Args:
        choice: A token; "auto" for the tokenizer's own, if it has one (without a bos, its eos: a document
            starts after the end of another); None for none.

    Raises:
        UsageError: The tokenizer has no such token; the hint names similar ones.
    """
    own = _own(model, role)
    chosen = own if choice == AUTO else choice
    if chosen is None:
        return None
    tokenizer = load_tokenizer(model)
    if tokenizer.token_to_id(chosen) is None:
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        near = difflib.get_close_matches(chosen, special, n=3, cutoff=0.4) or special[:5]
        hint = f"It has, for example, {', '.join(near)}." if near else "Choose null for none."
        raise UsageError(f"the tokenizer has no token {chosen!r}", hint=hint)
    return chosen


def follow_special_token(
    token: str | None, former: Path, model: Path, role: Literal["bos", "eos"]
) -> str | None:
    """Return the counterpart of a former tokenizer's start or end token in another one.

    It is the other tokenizer's own token of that role if it was the former's own, or else the token itself.

    Raises:
        DataError: The other tokenizer has neither.
    """
    if token is None:
        return None
    own = _own(model, role)
    chosen = own if token == special_token(former, AUTO, role) else token
    if chosen is not None and load_tokenizer(model).token_to_id(chosen) is None:
        raise DataError(
            f"the new tokenizer has no token {chosen!r}, which {'starts' if role == 'bos' else 'ends'} the "
            "corpus's documents",
            hint=f"Give the corpus stage the {'start' if role == 'bos' else 'end'}_token auto or null.",
        )
    return chosen


def _own(model: Path, role: Literal["bos", "eos"]) -> str | None:
    """Return the tokenizer's token of a role; without a bos its eos, after which a document starts too."""
    tokens = special_tokens(model)
    return tokens.get(role) or tokens.get("eos")


class DocumentTokenizer:
    """A tokenizer that splits documents into pieces of at most `sequence_length` tokens."""

    def __init__(
        self, model: Path, sequence_length: int, start_token: str | None, end_token: str | None
    ) -> None:
        self._model, self._tokenizer = model, load_tokenizer(model)
        self._length = sequence_length
        self._start, self._end = self._id(start_token), self._id(end_token)

    def _id(self, token: str | None) -> int | None:
        id = None if token is None else self._tokenizer.token_to_id(token)
        if token is not None and id is None:
            raise DataError(
                f"the tokenizer has no token {token!r}, which starts or ends the corpus's documents"
            )
        return id

    def pieces(self, documents: Iterable[Document]) -> Iterator[list[np.ndarray]]:
        """Yield each document's pieces, uint32 (tokens,) each, in order; tokenised in batches.

        Cut samples and excerpts have no end token.
        """
        for batch in chunked(documents, _characters):
            for tokens, _ in self.batch(batch):
                yield tokens

    def batch(self, documents: list[Document]) -> Iterator[tuple[list[np.ndarray], list[np.ndarray] | None]]:
        """Yield the pieces of each document of a batch, and the loss weights of their tokens.

        Returns:
            Pieces, uint32 (tokens,) each, and float16 (tokens,) each, or None where all weights are 1. The
            weight of a token is the largest of its characters', that of the end token the last one's before
            white space.
        """
        plain = token_ids(self._tokenizer, [each.text for each in documents if not each.marked])
        marked = self._marked_ids([each.text for each in documents if each.marked and not each.loss_weights])
        for document in documents:
            weights = None
            try:
                if document.loss_weights:
                    tokens, weights = self._weighted(document)
                else:
                    tokens = next(marked if document.marked else plain)
            except DataError as error:
                raise DataError(f"document {document.id}: {error.message}", hint=error.hint) from error
            if not len(tokens):
                raise DataError(f"document {document.id}: the tokenizer makes no tokens of its text")
            end = self._end if document.ended else None
            pieces = split_document(tokens, self._length, self._start, end)
            if weights is None:
                yield pieces, None
                continue
            start = None if self._start is None else 1.0  # never counts
            of_end = None if end is None else _weight_at(document, len(document.text.rstrip()) - 1)
            yield pieces, split_document(weights, self._length, start, of_end)

    def _weighted(self, document: Document) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of a document with loss weights, uint32 (tokens,), and those, float16 (tokens,)."""
        ids, spans = tokens_with_spans(self._marking if document.marked else self._tokenizer, document.text)
        ends, weights = (np.array(each) for each in zip(*document.loss_weights, strict=True))
        first = np.searchsorted(ends, spans[:, 0], side="right").clip(max=len(ends) - 1)
        last = np.searchsorted(ends, spans[:, 1], side="left").clip(first, len(ends) - 1)
        most = np.maximum(weights[first], weights[last])
        for place in np.flatnonzero(last > first + 1):  # a token over three stretches or more
            most[place] = weights[first[place] : last[place] + 1].max()
        return ids, most.astype(np.float16)

    def _marked_ids(self, texts: list[str]) -> Iterator[np.ndarray]:
        """Yield the ids of texts in which the spelling of a special token means that token."""
        return token_ids(self._marking, texts) if texts else iter(())

    @cached_property
    def _marking(self) -> Tokenizer:
        tokenizer = load_tokenizer(self._model)
        tokenizer.encode_special_tokens = False
        return tokenizer


def _characters(document: Document) -> int:
    return len(document.text)


def _weight_at(document: Document, place: int) -> float:
    """Return the loss weight of a character."""
    return next((weight for end, weight in document.loss_weights if place < end), 1.0)


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
        size=_characters,
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


def open_source(corpus: Path, source: str) -> TokenisedSource:
    """Open the packed training sequences of one source of a corpus folder, of all its parts.

    Args:
        source: "domain", or one part of it, "domain.notes".

    Raises:
        DataError: The corpus has none.
    """
    plain = tokens_path(corpus, source)
    return TokenisedSource(*(parts_of(plain.parent, source) or [plain]), name=source)


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
    for listing in LISTINGS:
        if (corpus / listing).exists():
            link(corpus / listing, output / listing)
    for name, source in index.sources.items():
        for split in source.splits:
            link(documents_path(corpus, name, split), documents_path(output, name, split))
    return tokenise(output, index, model, progress)
