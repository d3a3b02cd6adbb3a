"""Texts of a corpus artifact, as stages read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def has_texts(corpus: Path, source: str, split: str) -> bool:
    """Whether the corpus holds texts of that source and split."""
    return _file(corpus, source, split).is_file()


def iterate_texts(corpus: Path, source: str, split: str) -> Iterator[str]:
    """Texts of one source and split ("train" or "heldout"), in the corpus's order."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(_file(corpus, source, split)) as file:
        for batch in file.iter_batches(columns=["text"]):
            yield from batch.column("text").to_pylist()


def _file(corpus: Path, source: str, split: str) -> Path:
    return corpus / "documents" / f"{source}.{split}.parquet"
