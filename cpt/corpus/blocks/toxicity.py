"""Remove documents with too many words of a list, such as insults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document, Removed
from cpt.errors import DataError


class Toxicity(Block):
    """Documents whose share of listed words is above a limit.

    At the limit 0, one listed word removes a document, as in C4 (Raffel et al., JMLR 21(140), section 2.2).
    Longpre et al. (arXiv 2305.13169) compare that with a classifier, and find that models trained on less
    toxic text understand less: prefer a share, above all in medicine and law, whose terms such lists contain.
    """

    kind: Literal["toxicity"] = "toxicity"
    words: str = Field(
        min_length=1, description="A text file, or a reference to one, with one word or phrase per line."
    )
    max_share: float = Field(
        default=0.0, ge=0, lt=1, description="Largest share of a document's words that may be listed."
    )

    def files(self) -> list[str]:
        """Return the list of words."""
        return [self.words]

    def prepare(self) -> Cleaner:
        from cpt.corpus.blocks.words import words

        listed = _read(self.words)
        lengths = sorted({len(phrase) for phrase in listed}, reverse=True)

        def clean(document: Document) -> Document | Removed:
            found = [word.casefold() for word in words(document.text) if _is_word(word)]
            matched, first = 0, ""
            for phrase in _matches(found, listed, lengths):
                matched, first = matched + len(phrase), first or " ".join(phrase)
            if matched > self.max_share * len(found):
                return self.removed(document, f"{matched} of {len(found)} words, first: {first}")
            return document

        return clean


def _is_word(word: str) -> bool:
    return any(map(str.isalnum, word))


def _matches(found: list[str], listed: set[tuple[str, ...]], lengths: list[int]) -> Iterator[tuple[str, ...]]:
    """Yield the listed phrases in the text, the longest first, none overlapping another."""
    at = 0
    while at < len(found):
        for length in lengths:
            phrase = tuple(found[at : at + length])
            if phrase in listed:
                yield phrase
                at += length
                break
        else:
            at += 1


def _read(reference: str) -> set[tuple[str, ...]]:
    """Read a list of words and phrases.

    Raises:
        DataError: It is no text file, or it is empty.
    """
    from cpt.corpus.blocks.words import words
    from cpt.corpus.readers.files import read_text
    from cpt.references import resolve_file

    path = resolve_file(reference)
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a list of words", hint="Name a text file, one word per line.")
    lines = read_text(path).casefold().splitlines()
    phrases = {tuple(word for word in words(line) if _is_word(word)) for line in lines} - {()}
    if not phrases:
        raise DataError(
            f"{path}: a list of words without any word", hint="Write one word or phrase per line."
        )
    return phrases
