"""Store the entries of a stream, documents and removed ones, with facts about them: a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.corpus.documents import JSON_COLUMNS, Item, Removed, from_row, stored

_FACTS = b"cpt"
_COLUMNS = ("id", "text", "ended", "part", "source", "marked", *JSON_COLUMNS, "reason", "detail")


def write_items(path: Path, items: Sequence[Item], facts: Any = None) -> None:
    """Write entries in their order, and facts as plain data."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flags = ("ended", "marked")
    fields = [(name, pa.bool_() if name in flags else pa.string()) for name in _COLUMNS]
    schema = pa.schema(fields, {_FACTS: json.dumps(facts).encode()})
    columns = {name: [stored(item, name) for item in items] for name in _COLUMNS}
    # without a dictionary of texts, which differ, they are read at 230 MB/s, with one at 100
    compact = [name for name in _COLUMNS if name not in ("id", "text", *JSON_COLUMNS)]
    table = pa.table(columns, schema=schema)
    pq.write_table(table, path, compression="zstd", write_statistics=False, use_dictionary=compact)


def read_items(path: Path) -> list[Any]:
    """Return the entries of a file."""
    return read_items_and_facts(path)[0]


def read_items_and_facts(path: Path) -> tuple[list[Any], Any]:
    """Return the entries of a file, and the facts."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return [_item(row) for row in table.to_pylist()], json.loads(table.schema.metadata[_FACTS])


def _item(row: dict[str, Any]) -> Item:
    if row["reason"] is not None:
        return Removed(**{name: row[name] for name in ("id", "reason", "text", "detail", "source")})
    return from_row(row)
