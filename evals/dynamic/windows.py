"""Cut documents into windows of words: the same windows as without merging, with the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from cpt.corpus.documents import Document
from cpt.models.bits_per_byte import byte_offsets
from cpt.models.shared_windows import Reader, cut_document, encoded
from tokenizer_tools.dynamic.words import Word, WordBoundaries, words_of


@dataclass(frozen=True)
class WordWindow:
    """A window of a document.

    Attributes:
        document: Index of the document.
        start: Id of the token before the text; empty without one.
        context: Words of earlier text, which are not scored.
        scored: Words that are scored. No word spans context and scored text.
        bytes: Number of UTF-8 bytes of the scored words' characters.
        continues: True if the window does not begin the document.
    """

    document: int
    start: Word
    context: list[Word]
    scored: list[Word]
    bytes: int
    continues: bool

    @property
    def tokens(self) -> int:
        """Return the number of its tokens."""
        return len(self.start) + sum(map(len, self.context)) + sum(map(len, self.scored))


def word_windows(
    reader: Reader, boundaries: WordBoundaries, documents: Iterable[Document]
) -> Iterator[WordWindow]:
    """Yield the windows of documents.

    Args:
        reader: Tokenizer and windows of the model.
        boundaries: Word boundaries of this tokenizer.
        documents: Documents.
    """
    lead = 0 if reader.windows.start is None else 1
    for number, document in enumerate(documents):
        [[encoding]] = encoded([reader], [document.text])
        cut = cut_document(document.text, [encoding], [reader.windows])
        starts = boundaries.starts(encoding)
        first = begin = int(cut.first[0])
        sizes = _new_bytes(document.text, encoding, first)
        for ids, context in cut.windows[0]:
            held, end = context - lead, begin + len(ids) - context
            yield WordWindow(
                document=number,
                start=tuple(ids[:lead].tolist()),
                context=words_of(ids[lead:context], starts[begin - held : begin]),
                scored=words_of(ids[context:], starts[begin:end]),
                bytes=int(sizes[begin - first : end - first].sum()),
                continues=begin > first,
            )
            begin = end


def batches(windows: Iterable[WordWindow], most: int) -> Iterator[list[WordWindow]]:
    """Yield windows in their order, in batches of at most this many tokens; a longer window is one alone."""
    batch: list[WordWindow] = []
    total = 0
    for window in windows:
        if batch and total + window.tokens > most:
            yield batch
            batch, total = [], 0
        batch.append(window)
        total += window.tokens
    if batch:
        yield batch


def _new_bytes(text: str, encoding: Encoding, first: int) -> np.ndarray:
    """Return the UTF-8 bytes of the characters of each token from `first` on: [tokens].

    A character of several tokens is counted with the first of them, as in `spanned_bytes`.
    """
    spans = np.asarray(encoding.offsets[first:], dtype=np.int64).reshape(-1, 2)
    ends = np.maximum.accumulate(spans[:, 1])
    begins = np.maximum(spans[:, 0], np.concatenate([spans[:1, 0], ends[:-1]]))
    at = byte_offsets(text)
    return at[ends] - at[np.minimum(begins, ends)]
