"""Read held-out texts by number, so that a process holds only those that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt.corpus.document_columns import PLAIN, DocumentColumns, is_plain
from cpt.halves import Half, half_of
from cpt.sources import PART

_AHEAD, _MOST_AHEAD = 64, 4096
"""Texts that are read at once at first, and at most."""


class HeldOutTexts:
    """The held-out texts of a source, in the order of the corpus, read when somebody asks for them.

    Which rows of the file they are is known; of the texts a few row groups are in memory. Conversations and
    study documents are left out, as by `iterate_texts`.
    """

    def __init__(self, corpus: Path, source: str, half: Half | None = None) -> None:
        """Find the texts; of a source without held-out text there are none.

        Args:
            source: Source, or a part of one: "domain.notes".
            half: Half of the texts, for which all are read once; both if None.
        """
        whole, _, part = source.partition(PART)
        facts = DocumentColumns(corpus, whole, "heldout", [*PLAIN, *(["text"] if half else [])])
        self._texts = DocumentColumns(corpus, whole, "heldout", ["text"])
        found: dict[str, list[np.ndarray]] = {}
        for name, table in facts:
            chosen = is_plain(table)
            if part:
                chosen &= _is_of(table, part)
            if half is not None:
                chosen &= [half_of(text) == half for text in table["text"].to_pylist()]
            found.setdefault(name, []).append(chosen)
        self._rows = {name: np.flatnonzero(np.concatenate(chosen)) for name, chosen in found.items()}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def __iter__(self) -> Iterator[str]:
        return self.at(np.arange(len(self)))

    def at(self, numbers: np.ndarray) -> Iterator[str]:
        """Yield texts by number, in any order: few are read ahead at first, and ever more later on.

        Args:
            numbers: int (n,), each in 0 .. len - 1.
        """
        ends = np.cumsum([0, *map(len, self._rows.values())])
        begin, ahead = 0, _AHEAD
        while begin < len(numbers):
            some = numbers[begin : begin + ahead]
            texts: list[str] = [""] * len(some)
            for (name, rows), first, end in zip(self._rows.items(), ends, ends[1:], strict=False):
                places = np.flatnonzero((first <= some) & (some < end))
                if len(places):
                    read = self._texts.read(name, rows[some[places] - first])["text"].to_pylist()
                    for place, text in zip(places.tolist(), read, strict=True):
                        texts[place] = text
            yield from texts
            begin, ahead = begin + ahead, min(2 * ahead, _MOST_AHEAD)

    def lengths(self) -> np.ndarray:
        """Return the characters of each text: int64 (texts,)."""
        found: dict[str, list[np.ndarray]] = {}
        for name, table in self._texts:
            found.setdefault(name, []).append(pc.utf8_length(table["text"]).to_numpy())
        each = [np.concatenate(found[name])[rows] for name, rows in self._rows.items()]
        return np.concatenate([np.zeros(0, dtype=np.int64), *each]).astype(np.int64)


def _is_of(table: pa.Table, part: str) -> np.ndarray:
    """Return True for documents of a part: bool (rows,)."""
    if "part" not in table.column_names:  # corpora of earlier versions
        return np.zeros(len(table), dtype=bool)
    return pc.equal(table["part"], part).to_numpy()
