"""A sample of a text with as many documents as possible.

Documents are nearly independent, and the later windows of a document add little to its first: the noise of a
figure falls with the number of documents, not of tokens. A sample therefore takes the first window of every
document in turn, and only then their next windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from tokenizers import Encoding, Tokenizer

from cpt.errors import DataError
from cpt.models.bits_per_byte import (
    TokenisedText,
    Windows,
    spanned_bytes,
    whole_character,
    whole_spans,
)
from cpt.models.shared_windows import Reader, joined, shared_documents


@dataclass(frozen=True)
class TextSample:
    """Documents, each up to the end of its last window.

    Attributes:
        text: Windows of the documents; an item is a document.
        fingerprint: Hash of the documents and of the length read of each, independent of their order.
    """

    text: TokenisedText
    fingerprint: str


def sample_text(
    tokenizer: Tokenizer, texts: Iterable[str], window: int, start_token: str | None, max_tokens: int
) -> TextSample:
    """Return windows up to `max_tokens` tokens: one of each document, then the next ones.

    Args:
        tokenizer: Tokenizer of the model.
        texts: Documents, in an order of which every prefix is a fair sample; those with nothing to score are
            skipped.
        window: Largest number of tokens of a window.
        start_token: Token that precedes every document and every later window (see `Windows`).
        max_tokens: Number of tokens in all windows; the window that would exceed it is truncated.

    Raises:
        DataError: No text has anything to score.
    """
    return _sample(_documents(Reader.of(tokenizer, window, start_token), texts, max_tokens))


def shared_sample(former: Reader, own: Reader, texts: Iterable[str], max_tokens: int) -> TextSample:
    """Sample the text that a former tokenizer's sample holds, in windows of the same bytes for both.

    So readings before and after a change of vocabulary compare.

    Args:
        former: Tokenizer before the change, which decides how much of which documents is read.
        own: Tokenizer of the sample's tokens.
        texts, max_tokens: As in `sample_text`, in the former tokenizer's tokens.

    Raises:
        DataError: No text has anything to score.
    """
    documents = _documents(former, texts, max_tokens)
    cut = shared_documents([former, own], [document.read for document in documents])
    scored = [(document, each) for document, each in zip(documents, cut, strict=True) if each.size]
    if not scored:
        raise _nothing()
    text = joined([each for _, each in scored]).texts[1]
    return TextSample(text, _fingerprint((document.text, each.size) for document, each in scored))


def _documents(reader: Reader, texts: Iterable[str], max_tokens: int) -> list[_Document]:
    """Return the documents of a sample, each with its windows."""
    tokenizer, windows = reader.tokenizer, reader.windows
    documents: list[_Document] = []
    left = max_tokens
    with whole_spans(tokenizer):
        for text in texts:
            if left <= 0:
                break
            document = _Document(text, tokenizer.encode(text, add_special_tokens=False), windows)
            cost = document.take(left)
            if document.size:
                documents.append(document)
                left -= cost
    growing = documents
    while left > 0 and (growing := [document for document in growing if document.has_more]):
        for document in growing:
            left -= document.take(left) if left > 0 else 0
    return documents


class _Document:
    """A document whose windows are taken one after the other."""

    def __init__(self, text: str, encoding: Encoding, windows: Windows) -> None:
        self.text = text
        self._encoding, self._windows = encoding, windows
        self._count = self._taken = 0
        self._first = 0 if windows.start is not None else whole_character(encoding, 1)

    @property
    def has_more(self) -> bool:
        return self._taken < len(self._encoding)

    @property
    def read(self) -> str:
        """Return the text up to the end of the last window."""
        spans = self._encoding.offsets
        return self.text if not self.has_more else self.text[: spans[self._taken - 1][1]]

    @property
    def size(self) -> int:
        """Return the UTF-8 bytes of the scored text."""
        return spanned_bytes(self.text, self._encoding, self._first, self._taken)

    def take(self, left: int) -> int:
        """Take the next window, cut to `left` tokens, and return the tokens that the model reads for it."""
        taken, reach = self._taken, self._windows.reach(self._count + 1)
        context = self._windows.size - (reach - self._windows.reach(self._count))
        least = 1 if taken else self._first + 1
        self._taken = self._whole(min(len(self._encoding), reach, taken + max(left - context, least)))
        self._count += 1
        return self._taken - taken + context

    def cut(self) -> list[tuple[np.ndarray, int]]:
        """Return the windows, each with its number of context tokens."""
        return list(self._windows.cut(np.asarray(self._encoding.ids[: self._taken]), self._first))

    def _whole(self, end: int) -> int:
        """Return the last token before `end` that ends a character, else the first after it."""
        spans = self._encoding.offsets
        back = end
        while back > self._taken and back < len(spans) and spans[back][0] < spans[back - 1][1]:
            back -= 1
        return back if back > max(self._taken, self._first) else whole_character(self._encoding, end)


def _sample(documents: Sequence[_Document]) -> TextSample:
    if not documents:
        raise _nothing()
    cut = [document.cut() for document in documents]
    owners = np.repeat(np.arange(len(documents)), [len(windows) for windows in cut])
    context = np.asarray([context for windows in cut for _, context in windows])
    sizes = np.asarray([document.size for document in documents])
    return TextSample(
        TokenisedText([ids for windows in cut for ids, _ in windows], context, owners, sizes),
        _fingerprint((document.text, document.size) for document in documents),
    )


def _fingerprint(documents: Iterable[tuple[str, int]]) -> str:
    """Hash documents with the bytes that are scored of each."""
    items = sorted(f"{sha256(text.encode()).hexdigest()} {size}" for text, size in documents)
    return sha256("\n".join(items).encode()).hexdigest()


def _nothing() -> DataError:
    return DataError("there is no text to score", hint="Every document of it is empty: give it text.")
