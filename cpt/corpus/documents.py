"""Define documents, and store them: `documents/<source>.<split>.parquet`, a column for each attribute."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cpt.errors import DataError, Problem, SourceError
from cpt.sources import PART


@dataclass(frozen=True, slots=True)
class Document:
    """A text.

    Attributes:
        id: Place where it comes from: a file and line, a term, a key.
        ended: Whether an end token follows. Cut samples and excerpts have none: it would teach the model to
            stop early.
        part: Named part of the domain that it belongs to; empty in a source without parts.
        source: Name of the listed source that it comes from; empty for sampled text.
        marked: Whether special tokens that its text spells are meant as such: a rendered conversation, whose
            messages spell none themselves.
        metadata: Fields of its record that the source keeps, as JSON values.
        loss_weights: Weights of the loss on stretches of the text, one after the other, as pairs (end in
            characters, weight); empty if all of it counts alike. Such a text is never rewritten.
    """

    id: str
    text: str
    ended: bool = True
    part: str = ""
    source: str = ""
    marked: bool = False
    metadata: Mapping[str, Any] | None = None
    loss_weights: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry of a source that is not used. It is counted, never dropped silently.

    Attributes:
        reason: Name of the block that removed it, or the reader's reason; a key of the ledger.
        text: Its text; empty for entries without any.
        detail: The finer reason, for the examples.
        source: Name of the listed source that it comes from; empty for sampled text.
    """

    id: str
    reason: str
    text: str = ""
    detail: str = ""
    source: str = ""


Item = Document | Removed


def data_error(problems: Iterable[Problem]) -> SourceError:
    """Return one error that shows all problems of an input."""
    return SourceError("\n".join(str(problem) for problem in problems))


JSON_COLUMNS = ("metadata", "loss_weights")
"""Attributes of documents that are stored as JSON; null if empty."""

_COLUMNS = ("id", "text", "ended", "part", "source", "marked", *JSON_COLUMNS)
_BYTES_AT_ONCE = 8 << 20
_ROWS_AT_ONCE = 1024
_ROWS_OF_A_GROUP = 1 << 16
_DEEPEST = 100


def documents_path(corpus: Path, source: str, split: str) -> Path:
    """Return the file of a corpus folder with the documents of one split of one source."""
    return corpus / "documents" / f"{source}.{split}.parquet"


def parts_of(folder: Path, source: str, suffix: str = "") -> list[Path]:
    """Return a source's path `<source><suffix>` in a folder, or `<source>.<part><suffix>` of each part."""
    plain = folder / f"{source}{suffix}"
    return [plain] if plain.exists() else sorted(folder.glob(f"{source}{PART}*{suffix}"))


class DocumentWriter:
    """A writer of documents to Parquet in row groups of about 8 MB, so that memory stays bounded."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        flags = ("ended", "marked")
        self._schema = pa.schema([(name, pa.bool_() if name in flags else pa.string()) for name in _COLUMNS])
        # No dictionary and no minimum and maximum of texts: texts differ, and each would copy a long one.
        compact = ["id", "ended", "part", "source", "marked"]
        self._writer: Any = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=compact, write_statistics=compact
        )
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def write(self, document: Document) -> None:
        """Add one document; a long one gets a row group of its own."""
        row = {name: stored(document, name) for name in _COLUMNS}
        size = sum(len(row[name] or "") for name in ("text", "id", *JSON_COLUMNS))
        if size >= _BYTES_AT_ONCE:
            self._flush()
        self._rows.append(row)
        self._size += size
        if self._size >= _BYTES_AT_ONCE or len(self._rows) == _ROWS_OF_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            import pyarrow as pa

            columns = {name: [row[name] for row in self._rows] for name in _COLUMNS}
            self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows, self._size = [], 0

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()

    def close(self) -> None:
        """Write what is left, and end the file."""
        self._flush()
        self._writer.close()


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a field of a record as a JSON value: dates and other values as text, NaN and infinities as null.

    Bytes have no JSON value; their `str` would be Python's notation, so they become null too.

    Raises:
        RecursionError: It is nested more deeply than a hundred levels.
    """
    if depth > _DEEPEST:
        raise RecursionError("nested too deeply")
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): json_value(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [json_value(inner, depth + 1) for inner in value]
        case bytes():
            return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def stored(item: Item, name: str) -> Any:
    """Return an attribute as it is stored in a column; None if entries of its kind have none."""
    value = getattr(item, name, None)
    if name not in JSON_COLUMNS:
        return value
    # Escapes keep half characters, which UTF-8 cannot hold.
    return None if value in (None, ()) else json.dumps(value)


def from_row(row: dict[str, Any]) -> Document:
    """Return the document of a row; columns that a file of an earlier version lacks are left out."""
    read = {name: json.loads(row[name]) for name in JSON_COLUMNS if row.get(name) is not None}
    if "loss_weights" in read:
        read["loss_weights"] = tuple((int(end), float(weight)) for end, weight in read["loss_weights"])
    plain = {name: row[name] for name in _COLUMNS if name in row and name not in JSON_COLUMNS}
    return Document(**plain, **read)


def batches(file: Any, columns: list[str]) -> Iterator[Any]:
    """Yield the record batches of a Parquet file, shorter where rows are long, so that memory is bounded."""
    for group in range(file.num_row_groups):
        facts = file.metadata.row_group(group)
        most = facts.num_rows * _BYTES_AT_ONCE // max(facts.total_byte_size, 1)
        rows = min(max(most, 1), _ROWS_AT_ONCE)
        yield from file.iter_batches(rows, row_groups=[group], columns=columns)


def read_documents(corpus: Path, source: str, split: str) -> Iterator[Document]:
    """Yield the documents of one split of one source and all its parts, batch by batch.

    Raises:
        DataError: The corpus has no such split, or its file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = parts_of(corpus / "documents", source, f".{split}.parquet")
    if not paths:
        raise DataError(f"{corpus}: this corpus has no {split} documents of source {source!r}")
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                # Corpora of earlier versions lack columns: their held-out text is still read.
                columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                for batch in batches(file, columns):
                    rows = batch.to_pylist()[::-1]
                    del batch
                    while rows:
                        yield from_row(rows.pop())
        except pa.ArrowException as error:
            raise DataError(f"{path}: damaged: {error}", hint="Run the corpus stage again.") from error
