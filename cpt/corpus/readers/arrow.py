"""Read rows of Parquet files, and of data sets that `datasets` saved to disk (Arrow streams)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Item, batches, data_error
from cpt.corpus.readers.files import ReadFiles, listed, open_bytes, open_seekable, quoted
from cpt.corpus.readers.records import Fields
from cpt.errors import Problem, SourceError

_AT_ONCE = 256
"""Rows of an Arrow batch that are made Python values at once."""

_STATE, _SPLITS = "state.json", "dataset_dict.json"
"""Files of `Dataset.save_to_disk` and of `DatasetDict.save_to_disk` (datasets 2 to 5)."""


def read_parquet(path: Path, name: str, fields: Fields, files: ReadFiles | None = None) -> Iterator[Item]:
    """Yield one document per row, batch by batch. A null text is removed as "empty".

    Args:
        fields: Columns that are read.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file is not Parquet, damaged, without a column, or its column does not hold text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = 0
    try:
        with (
            open_seekable(path, files) as opened,
            pq.ParquetFile(opened, page_checksum_verification=True) as file,
        ):
            _check_columns(file.schema_arrow, path, fields)
            for batch in batches(file, fields.all):
                yield from _items(batch, read, path, name, fields)
                read += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        after = f" after row {read}" if read else ""
        raise SourceError(
            f"{path}: not a Parquet file that can be read{after}: {error}",
            hint="It may be cut off or of another format: get it again, or set format.",
        ) from error


def read_arrow(path: Path, name: str, fields: Fields, files: ReadFiles | None = None) -> Iterator[Item]:
    """Yield one document per row of an Arrow stream, as `read_parquet` does; no cast or code of it is run.

    Memory is that of one batch of the file, which its writer chose (1,000 rows by default).
    """
    import pyarrow as pa

    read = 0
    try:
        with open_bytes(path, files) as stream, pa.ipc.open_stream(stream) as batched:
            _check_columns(batched.schema, path, fields)
            for batch in batched:
                batch.validate(full=True)  # offsets that lie outside would be read as memory
                chosen = batch.select(fields.all)
                for start in range(0, chosen.num_rows, _AT_ONCE):
                    part = chosen.slice(start, _AT_ONCE)
                    yield from _items(part, read, path, name, fields)
                    read += part.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        after = f" after row {read}" if read else ""
        raise SourceError(
            f"{path}: not an Arrow stream that can be read{after}: {error}",
            hint="It is read as `Dataset.save_to_disk` writes it: save it again, or set format.",
        ) from error


def is_saved_data_set(folder: Path) -> bool:
    """Return True if a folder was written by `save_to_disk` of a data set, or of several splits."""
    return (folder / _SPLITS).is_file() or (folder / _STATE).is_file()


def saved_files(folder: Path, split: str | None) -> list[Path]:
    """Return the Arrow files of a saved data set, in their order.

    Args:
        split: Split to read; None if there is only one.

    Raises:
        SourceError: The split is missing or not named, or the folder is damaged.
    """
    if (folder / _SPLITS).is_file():
        folder /= _split_of(folder, split)
    elif split is not None:
        raise SourceError(f"{folder}: a data set without splits", hint="Leave `split` out.")
    entries = _read_json(folder / _STATE).get("_data_files")
    names = [each.get("filename") if isinstance(each, dict) else None for each in entries or []]
    if not isinstance(entries, list) or not all(isinstance(each, str) and each for each in names):
        raise SourceError(f"{folder / _STATE}: names no data files", hint="Save the data set again.")
    paths = [folder / str(each) for each in names]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise SourceError(f"{folder / _STATE}: there is no file {quoted(path.name)} in its folder")
    return paths


def _split_of(folder: Path, split: str | None) -> str:
    splits = _read_json(folder / _SPLITS).get("splits")
    if not isinstance(splits, list) or not all(_is_name(each) for each in splits):
        raise SourceError(f"{folder / _SPLITS}: names no splits", hint="Save the data set again.")
    if split is None and len(splits) == 1:
        return str(splits[0])
    if split is None or split not in splits:
        which = "several splits" if split is None else f"no split {quoted(split)}"
        raise SourceError(
            f"{folder}: the data set has {which}: {listed(splits)}", hint="Set `split` to one of them."
        )
    return split


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and Path(value).name == value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: cannot be read: {error}", hint="Save the data set again.") from error
    return found if isinstance(found, dict) else {}


def _items(batch: Any, read: int, path: Path, name: str, fields: Fields) -> Iterator[Item]:
    """Yield the documents of a batch, one row at a time as Python values: long texts are not held twice."""
    names = batch.schema.names
    for row in range(batch.num_rows):
        record = {column: batch.column(at)[row].as_py() for at, column in enumerate(names)}
        found = fields.item(f"{name}:{read + row + 1}", record)
        del record
        if isinstance(found, Problem):
            raise data_error([Problem(found.message, f"{path}: row {read + row + 1}", hint=found.hint)])
        yield found


def _check_columns(schema: Any, path: Path, fields: Fields) -> None:
    import pyarrow as pa

    texts = [field.name for field in schema if _is_text(pa, field.type)]
    fields.require(schema.names, texts, str(path))
    if fields.chat is None and fields.text not in texts:
        raise SourceError(
            f"{path}: column {quoted(fields.text)} holds {schema.field(fields.text).type}, not text",
            hint=f"Columns of text: {listed(texts)}." if texts else None,
        )


def _is_text(pa: Any, type: Any) -> bool:
    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))
