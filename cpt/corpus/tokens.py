"""From text to token pieces, with the tokenizer of a model folder."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from cpt.corpus.documents import Document
from cpt.corpus.packing import split_document
from cpt.errors import DataError, Problem, RecipeError
from cpt.models.encoding import token_ids
from cpt.models.tokenizer import FILE, load_tokenizer, special_tokens

AUTO = "auto"
"""Stands for the tokenizer's own bos or eos token."""

_DOCUMENTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 1 << 20


def tokenizer_sha256(model: Path) -> str:
    """SHA-256 of a model folder's tokenizer.json."""
    return hashlib.sha256((model / FILE).read_bytes()).hexdigest()


def special_token(model: Path, choice: str | None, role: Literal["bos", "eos"]) -> str | None:
    """The token that starts (bos) or ends (eos) documents.

    Args:
        choice: A token; "auto" for the tokenizer's own, if it has one (a document starts after the end of
            another where there is no bos); None for none.

    Raises:
        RecipeError: The tokenizer has no such token; suggests one.
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
        raise RecipeError([Problem(f"the tokenizer has no token {chosen!r}", hint=hint)])
    return chosen


def follow_special_token(
    token: str | None, former: Path, model: Path, role: Literal["bos", "eos"]
) -> str | None:
    """What stands for a former tokenizer's start or end token in another one.

    The other tokenizer's own token of that role, if it was the former's own; and else the token itself.

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
    """The tokenizer's token of a role; where it has no bos, its eos, after which a document starts too."""
    tokens = special_tokens(model)
    return tokens.get(role) or tokens.get("eos")


class DocumentTokenizer:
    """Turns documents into pieces of at most `sequence_length` tokens."""

    def __init__(
        self, model: Path, sequence_length: int, start_token: str | None, end_token: str | None
    ) -> None:
        self._tokenizer = load_tokenizer(model)
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
            found = token_ids(self._tokenizer, [document.text for document in batch])
            for document in batch:
                try:
                    tokens = next(found)
                except DataError as error:
                    raise DataError(f"document {document.id}: {error.message}", hint=error.hint) from error
                if not len(tokens):
                    raise DataError(f"document {document.id}: the tokenizer makes no tokens of its text")
                end = self._end if document.ended else None
                yield split_document(tokens, self._length, self._start, end)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents so that a batch has bounded text (a longer document is a batch of its own)."""
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
