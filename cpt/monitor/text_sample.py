"""A sample of a text that holds as many documents as it can.

What one document says of another in the same text is little, and a document's later windows say little that
its first does not: the noise of a figure falls with the documents, not with their tokens. So a sample takes
the first window of every document in turn, and only when all of them are used their next windows.
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
    """Documents, each as far as it is read.

    Attributes:
        text: their windows; an item is a document.
        fingerprint: of the documents and of how much of each is read, whatever their order.
    """

    text: TokenisedText
    fingerprint: str


def sample_text(
    tokenizer: Tokenizer, texts: Iterable[str], window: int, start_token: str | None, max_tokens: int
) -> TextSample:
    """Windows of at most `window` tokens, until they hold `max_tokens`: one of each document, then the next.

    Args:
        texts: in an order of which every beginning is a fair sample; those with nothing to score are passed
            over.
        start_token: token that precedes every document and every later window (see `Windows`).
        max_tokens: the window that would exceed it is cut.

    Raises:
        DataError: no text has anything to score.
    """
    return _sample(_documents(Reader.of(tokenizer, window, start_token), texts, max_tokens))


def shared_sample(former: Reader, own: Reader, texts: Iterable[str], max_tokens: int) -> TextSample:
    """Sample the text that a former tokenizer's sample holds, in windows of the same bytes for both.

    So readings before and after a change of vocabulary compare.

    Args:
        former: tokenizer before the change, which decides how much of which documents is read.
        own: tokenizer whose tokens the sample has.
        texts, max_tokens: as of `sample_text`, in the former's tokens.

    Raises:
        DataError: no text has anything to score.
    """
    documents = _documents(former, texts, max_tokens)
    cut = shared_documents([former, own], [document.read for document in documents])
    scored = [(document, each) for document, each in zip(documents, cut, strict=True) if each.size]
    if not scored:
        raise _nothing()
    text = joined([each for _, each in scored]).texts[1]
    return TextSample(text, _fingerprint((document.text, each.size) for document, each in scored))


def _documents(reader: Reader, texts: Iterable[str], max_tokens: int) -> list[_Document]:
    """Documents of a sample, each with the windows that were taken."""
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
    """A document, of which ever more windows are taken."""

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
        """The text as far as it is taken."""
        spans = self._encoding.offsets
        return self.text if not self.has_more else self.text[: spans[self._taken - 1][1]]

    @property
    def size(self) -> int:
        """UTF-8 bytes of what is scored."""
        return spanned_bytes(self.text, self._encoding, self._first, self._taken)

    def take(self, left: int) -> int:
        """Take the next window, cut to `left` tokens; returns the tokens that the model reads for it."""
        taken, reach = self._taken, self._windows.reach(self._count + 1)
        context = self._windows.size - (reach - self._windows.reach(self._count))
        least = 1 if taken else self._first + 1
        self._taken = self._whole(min(len(self._encoding), reach, taken + max(left - context, least)))
        self._count += 1
        return self._taken - taken + context

    def cut(self) -> list[tuple[np.ndarray, int]]:
        """Its windows, with how many tokens of each are context."""
        return list(self._windows.cut(np.asarray(self._encoding.ids[: self._taken]), self._first))

    def _whole(self, end: int) -> int:
        """The last token before `end` that ends a character, or the first after it if there is none."""
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
