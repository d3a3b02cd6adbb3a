"""Tokenise the documents of a corpus folder, count them, and pack training text into shards."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from cpt.corpus.documents import Document, documents_path, parts_of, read_documents
from cpt.corpus.index import CorpusIndex, SplitCounts, read_index, write_index
from cpt.corpus.shards import ShardWriter, TokenisedSource, split_document
from cpt.errors import DataError, UsageError
from cpt.models.encoding import token_ids
from cpt.models.tokenizer import FILE, load_tokenizer, special_tokens
from cpt.models.tokenizer import FILE as TOKENIZER
from cpt.progress import Progress

AUTO = "auto"
"""The choice of the tokenizer's own bos or eos token."""

_DOCUMENTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 1 << 20


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
        for batch in _batches(documents):
            plain = token_ids(self._tokenizer, [each.text for each in batch if not each.marked])
            marked = self._marked_ids([each.text for each in batch if each.marked])
            for document in batch:
                try:
                    tokens = next(marked if document.marked else plain)
                except DataError as error:
                    raise DataError(f"document {document.id}: {error.message}", hint=error.hint) from error
                if not len(tokens):
                    raise DataError(f"document {document.id}: the tokenizer makes no tokens of its text")
                end = self._end if document.ended else None
                yield split_document(tokens, self._length, self._start, end)

    def _marked_ids(self, texts: list[str]) -> Iterator[np.ndarray]:
        """Yield the ids of texts in which the spelling of a special token means that token."""
        return token_ids(self._marking, texts) if texts else iter(())

    @cached_property
    def _marking(self) -> Tokenizer:
        tokenizer = load_tokenizer(self._model)
        tokenizer.encode_special_tokens = False
        return tokenizer


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents so that a batch has bounded text; a longer document is a batch of its own."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) == _DOCUMENTS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


FORMER = "former"
"""Folder in a corpus with the tokenizer.json from before its vocabulary changed."""


def tokens_path(corpus: Path, source: str) -> Path:
    """Return the folder of a corpus with the packed training sequences of a source."""
    return corpus / "tokens" / source


def open_source(corpus: Path, source: str) -> TokenisedSource:
    """Open the packed training sequences of one source of a corpus folder, of all its parts.

    Raises:
        DataError: The corpus has none.
    """
    plain = tokens_path(corpus, source)
    return TokenisedSource(*(parts_of(plain.parent, source) or [plain]))


def tokenise(corpus: Path, index: CorpusIndex, model: Path, progress: Progress | None = None) -> CorpusIndex:
    """Tokenise all documents of a corpus folder, write `tokens/` and `corpus.json`.

    Training splits are packed and stored; held-out splits are only counted.

    Args:
        corpus: Folder with `documents/`.
        index: Counts of documents, with sequence length and special tokens.
        model: Folder with the tokenizer.

    Returns:
        The index with tokens, pieces and sequences counted, as written.
    """
    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    result = index.model_copy(deep=True, update={"tokenizer": tokenizer_sha256(model)})
    total = sum(counts.documents for source in index.sources.values() for counts in source.splits.values())
    done = 0
    for name, source in result.sources.items():
        for split, counts in source.splits.items():
            counts.tokens = counts.pieces = counts.sequences = 0
            writer = (
                ShardWriter(tokens_path(corpus, name), index.sequence_length) if split == "train" else None
            )
            for pieces in tokenizer.pieces(read_documents(corpus, name, split)):
                _count(counts, pieces_tokens=[len(piece) for piece in pieces])
                if writer is not None:
                    writer.add(pieces)
                done += 1
                if progress is not None and (done % 1000 == 0 or done == total):
                    progress.update(done, total, "documents")
            if writer is not None:
                writer.close()
                counts.sequences = writer.sequences
    write_index(corpus, result)
    return result


def _count(counts: SplitCounts, pieces_tokens: list[int]) -> None:
    counts.pieces += len(pieces_tokens)
    counts.tokens += sum(pieces_tokens)


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
    for name, source in index.sources.items():
        for split in source.splits:
            _link(documents_path(corpus, name, split), documents_path(output, name, split))
    return tokenise(output, index, model, progress)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
