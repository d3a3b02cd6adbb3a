"""Texts of a corpus artifact, as stages read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def has_texts(corpus: Path, source: str, split: str) -> bool:
    """Whether the corpus holds texts of that source and split."""
    from cpt.corpus.store import documents_path

    return documents_path(corpus, source, split).is_file()


def iterate_texts(corpus: Path, source: str, split: str) -> Iterator[str]:
    """Texts of one source and split ("train" or "heldout"), in the corpus's order."""
    from cpt.corpus import read_documents

    return (document.text for document in read_documents(corpus, source, split))
