"""One row per document, one column of text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Document, Item, Removed
from cpt.errors import DataError

_ROWS_AT_ONCE = 1024


def read_parquet(path: Path, name: str, text_field: str) -> Iterator[Item]:
    """Yield one document per row, batch by batch; a null text is removed as "empty".

    Raises:
        DataError: Not Parquet, damaged, without the column, or its column does not hold text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_column(file.schema_arrow, path, text_field)
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[text_field]):
                for value in batch.column(0):
                    number += 1
                    id, text = f"{name}:{number}", value.as_py()
                    yield Removed(id, "empty") if text is None else Document(id, text)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        after = f" after row {number}" if number else ""
        raise DataError(
            f"{path}: not a Parquet file that can be read{after}: {error}",
            hint="It may be cut off or of another format: get it again, or set format.",
        ) from error


def _check_column(schema: Any, path: Path, text_field: str) -> None:
    import pyarrow as pa

    texts = [field.name for field in schema if _is_text(pa, field.type)]
    if text_field not in schema.names:
        near = difflib.get_close_matches(text_field, schema.names, n=1) or texts
        raise DataError(
            f"{path}: no column {text_field!r}; its columns are: {', '.join(schema.names[:20])}",
            hint=f"Set text_field: {near[0]} if that is the text." if near else None,
        )
    if text_field not in texts:
        raise DataError(
            f"{path}: column {text_field!r} holds {schema.field(text_field).type}, not text",
            hint=f"Columns of text: {', '.join(texts)}." if texts else None,
        )


def _is_text(pa: Any, type: Any) -> bool:
    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))
