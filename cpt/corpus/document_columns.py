"""Read facts about documents by their rows, a few row groups of the file at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpt.corpus.documents import parts_of
from cpt.sources import PART, STUDY

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class DocumentColumns:
    """Some columns of the documents of one split of one source."""

    def __init__(self, corpus: Path, source: str, split: str, columns: Sequence[str]) -> None:
        """Open a file for the source, or one for each of its parts."""
        import pyarrow.parquet as pq

        ending = f".{split}.parquet"
        paths = parts_of(corpus / "documents", source, ending)
        self._files = {path.name.removesuffix(ending): pq.ParquetFile(path) for path in paths}
        there = [set(file.schema_arrow.names) for file in self._files.values()]
        # Corpora of earlier versions lack columns.
        self._columns = [name for name in columns if all(name in each for each in there)]
        self._starts = {name: _starts(file) for name, file in self._files.items()}

    def __iter__(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the columns of all documents, a row group at a time, with the name of the file."""
        for name, file in self._files.items():
            for group in range(file.num_row_groups):
                yield name, file.read_row_group(group, self._columns)

    def read(self, folder: str, rows: np.ndarray) -> pa.Table:
        """Return the columns of documents.

        Args:
            folder: Name of the folder of shards whose documents they are. A part that has no file of its own
                is in that of its source.
            rows: int64 (n,), rows of the file in any order.
        """
        import pyarrow as pa

        name = folder if folder in self._files else folder.partition(PART)[0]
        group = np.searchsorted(self._starts[name], rows, side="right") - 1
        order, tables = np.argsort(group, kind="stable"), []
        for number, own in _stretches(group[order], rows[order]):
            table = self._files[name].read_row_group(number, self._columns)
            tables.append(table.take(own - self._starts[name][number]))
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return pa.concat_tables(tables).take(places)


def _stretches(groups: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each group, and its rows. The groups are in order."""
    begins = np.flatnonzero(np.diff(groups, prepend=-1))
    for begin, own in zip(begins, np.split(rows, begins[1:]), strict=True):
        yield int(groups[begin]), own


def _starts(file: pq.ParquetFile) -> np.ndarray:
    """Return the first row of each row group: int64 (row groups,)."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return np.cumsum([0, *sizes[:-1]])


class ListedSources:
    """The listed source of each document, by its place among their names."""

    def __init__(self, corpus: Path, source: str, split: str) -> None:
        self._columns = DocumentColumns(corpus, source, split, ["source"])
        names: dict[str, None] = {}
        for _, table in self._columns:
            names.update(dict.fromkeys(table["source"].unique().to_pylist()))
        self._places = {name: place for place, name in enumerate(names)}
        self.names = list(names)
        """Names of the listed sources, in the order of their first documents; empty for sampled text."""

    def __call__(self, folder: str, rows: np.ndarray) -> np.ndarray:
        """Return the places of the documents' sources among the names: int64 (n,)."""
        column = self._columns.read(folder, rows)["source"].combine_chunks().dictionary_encode()
        places = [self._places[name] for name in column.dictionary.to_pylist()]
        return np.array(places, dtype=np.int64)[column.indices.to_numpy()]


class PlainDocuments:
    """Mask of a source's training documents that are neither study documents nor conversations."""

    def __init__(self, corpus: Path, source: str) -> None:
        self._columns = DocumentColumns(corpus, source, "train", PLAIN)

    def __call__(self, folder: str, rows: np.ndarray) -> np.ndarray:
        """Return True for documents that are plain: bool (n,)."""
        return is_plain(self._columns.read(folder, rows))


PLAIN = ("part", "marked")
"""Columns that tell which documents are plain."""


def is_plain(table: pa.Table) -> np.ndarray:
    """Return True for documents that are neither study documents nor conversations: bool (rows,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = np.ones(len(table), dtype=bool)
    if "part" in table.column_names:
        plain &= ~pc.is_in(table["part"], value_set=pa.array(STUDY)).to_numpy()
    if "marked" in table.column_names:
        plain &= ~table["marked"].to_numpy()
    return plain
