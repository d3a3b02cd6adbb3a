"""Tokenise documents: their special tokens, pieces of at most a sequence, and the weights of their tokens."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from cpt.corpus.documents import Document
from cpt.corpus.packing import split_document
from cpt.corpus.workers import chunked
from cpt.errors import DataError, UsageError
from cpt.models.encoding import token_ids, tokens_with_spans
from cpt.models.tokenizer import load_tokenizer, special_tokens

AUTO = "auto"
"""The choice of the tokenizer's own bos or eos token."""


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

        Cut samples and excerpts have no end token. Weights of the loss are left aside.
        """
        documents = (replace(each, loss_weights=()) if each.loss_weights else each for each in documents)
        for batch in chunked(documents, characters):
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


def _weight_at(document: Document, place: int) -> float:
    """Return the loss weight of a character."""
    return next((weight for end, weight in document.loss_weights if place < end), 1.0)


def characters(document: Document) -> int:
    """Return the size of a document for chunks."""
    return len(document.text)
