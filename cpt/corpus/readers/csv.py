"""Read one document per row of CSV and TSV files (RFC 4180), with the names of columns in the first row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from cpt.corpus.documents import Item, data_error
from cpt.corpus.readers.files import ReadFiles, decode, listed, open_bytes, read_lines
from cpt.corpus.readers.records import Fields
from cpt.errors import Problem, SourceError

MOST_CHARACTERS = 1 << 28
"""Characters of the longest field. An unclosed quotation mark makes the rest of a file one field, which is
held at four bytes a character."""

_DELIMITERS = ",;\t|"


def read_csv(
    path: Path, name: str, fields: Fields, delimiter: str | None = None, files: ReadFiles | None = None
) -> Iterator[Item]:
    """Yield one document per row; rows without any field are skipped, an empty text is removed later.

    Args:
        name: Prefix of the documents' ids; the line on which the row ends follows.
        fields: Columns that are read.
        delimiter: Delimiter; None for the one that parts the first row into columns with those names.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file has no such columns, or a row is not CSV; names the line.
        OSError: The compressed stream is damaged or truncated.
    """
    csv.field_size_limit(MOST_CHARACTERS)  # the library's own is 131,072 characters
    with open_bytes(path, files) as stream:
        lines = _decoded(read_lines(stream, path), path)
        first = next(lines, None)
        if first is None:
            raise SourceError(f"{path}: empty", hint="The first row must name the columns.")
        chosen = delimiter or _delimiter(first, path, fields)
        rows = csv.reader(_chained(first, lines), delimiter=chosen, strict=True)
        try:
            header = next(rows, [])
            _check_header(header, path, fields)
            for row in rows:
                if row:
                    yield _item(row, header, rows.line_num, path, name, fields)
        except csv.Error as error:
            raise _not_csv(path, rows.line_num, str(error)) from error


def _decoded(lines: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        text = decode(line, path, number)
        if isinstance(text, Problem):
            raise data_error([text])
        yield text


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _delimiter(first: str, path: Path, fields: Fields) -> str:
    """Return the delimiter by a file's name (.tsv), else by the names of columns in its first row."""
    if ".tsv" in [suffix.lower() for suffix in path.suffixes]:
        return "\t"
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            continue
        if set(fields.needed) <= set(names):
            return delimiter
    return ","


def _check_header(header: list[str], path: Path, fields: Fields) -> None:
    fields.require(header, header, str(path))
    twice = sorted({name for name in fields.all if header.count(name) > 1})
    if twice:
        raise SourceError(f"{path}:1: columns of the same name: {listed(twice)}", hint="Rename one of them.")


def _item(row: list[str], header: list[str], line: int, path: Path, name: str, fields: Fields) -> Item:
    if len(row) != len(header):
        raise _not_csv(path, line, f"the row has {len(row):,} fields, but the first row has {len(header):,}")
    found = fields.item(f"{name}:{line}", dict(zip(header, row, strict=True)))
    if isinstance(found, Problem):
        raise data_error([Problem(found.message, file=str(path), line=line, hint=found.hint)])
    return found


def _not_csv(path: Path, line: int, why: str) -> SourceError:
    return SourceError(
        f"{path}:{line}: not CSV: {why}",
        hint="Fields with delimiters, quotation marks or line ends stand in quotation marks, and a quotation "
        'mark in them is doubled (""). Set `delimiter` if it is another one.',
    )
