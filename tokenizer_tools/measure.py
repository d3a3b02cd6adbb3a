"""How well a tokenizer compresses text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from cpt.models.encoding import blocks, token_ids

_BATCH = 1024
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese."""


@dataclass(frozen=True)
class Counts:
    """What a tokenizer makes of texts, special tokens not added.

    Attributes:
        bytes: of the texts in UTF-8.
        words: separated by white space; None where most characters are of a script without spaces.
        tokens: that the texts become.
        uses: [V] how often each token id occurs.
    """

    bytes: int
    words: int | None
    tokens: int
    uses: np.ndarray


def count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counts:
    """Tokenise the texts, a batch at a time, and count."""
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    uses = np.zeros(size, np.int64)
    byte_count = words = characters = unspaced = 0
    for batch in _batches(texts):
        uses += np.bincount(np.concatenate(list(token_ids(tokenizer, batch))), minlength=size)
        for text in batch:
            for part in blocks(text):
                parts = part.split()
                words += len(parts)
                characters += sum(map(len, parts))
            unspaced += len(_UNSPACED.findall(text))
            byte_count += len(text.encode())
    spaced = 2 * unspaced <= characters
    return Counts(byte_count, words if spaced else None, int(uses.sum()), uses)


def bytes_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """UTF-8 bytes of the texts over the tokens they become, special tokens not added.

    Raises:
        ValueError: the texts hold no token.
    """
    counts = count(tokenizer, texts)
    if not counts.tokens:
        raise ValueError("no text to measure")
    return counts.bytes / counts.tokens


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
