"""Read one document per row, from one column of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Document, Item, Removed, batches
from cpt.corpus.readers.files import ReadFiles, listed, nearest, open_seekable, quoted, shown
from cpt.errors import SourceError


def read_parquet(path: Path, name: str, text_field: str, files: ReadFiles | None = None) -> Iterator[Item]:
    """Yield one document per row, batch by batch. A null text is removed as "empty".

    Args:
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file is not Parquet, damaged, without the column, or its column does not hold text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with (
            open_seekable(path, files) as opened,
            pq.ParquetFile(opened, page_checksum_verification=True) as file,
        ):
            _check_column(file.schema_arrow, path, text_field)
            for batch in batches(file, [text_field]):
                for value in batch.column(0):
                    number += 1
                    id, text = f"{name}:{number}", value.as_py()
                    yield Removed(id, "empty") if text is None else Document(id, text)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        after = f" after row {number}" if number else ""
        raise SourceError(
            f"{path}: not a Parquet file that can be read{after}: {error}",
            hint="It may be cut off or of another format: get it again, or set format.",
        ) from error


def _check_column(schema: Any, path: Path, text_field: str) -> None:
    import pyarrow as pa

    texts = [field.name for field in schema if _is_text(pa, field.type)]
    if text_field not in schema.names:
        near = nearest(text_field, schema.names) or texts
        raise SourceError(
            f"{path}: no column {quoted(text_field)}; its columns are: {listed(schema.names)}",
            hint=f"Set text_field: {shown(near[0])} if that is the text." if near else None,
        )
    if text_field not in texts:
        raise SourceError(
            f"{path}: column {quoted(text_field)} holds {schema.field(text_field).type}, not text",
            hint=f"Columns of text: {listed(texts)}." if texts else None,
        )


def _is_text(pa: Any, type: Any) -> bool:
    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))
