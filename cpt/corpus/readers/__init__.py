"""Read files as a stream of documents and of entries left out: one module per format."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.readers.arrow import is_saved_data_set, read_arrow, read_parquet, saved_files
from cpt.corpus.readers.csv import read_csv
from cpt.corpus.readers.extracted import LIBRARIES, Extracting, Extraction, Extractions, missing_library
from cpt.corpus.readers.files import ReadFiles, open_bytes, read_text, read_whole
from cpt.corpus.readers.jsonl import read_jsonl
from cpt.corpus.readers.markdown import read_markdown
from cpt.corpus.readers.obo import read_obo
from cpt.corpus.readers.records import Fields
from cpt.errors import SourceError
from cpt.references.cache import visible_files
from cpt.references.prose import prose_of

Format = Literal[
    "auto", "jsonl", "parquet", "arrow", "csv", "text", "markdown", "html", "pdf", "docx", "obo", "python"
]

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".obo": "obo",
    ".py": "python",
}
_COMPRESSED = (".gz", ".zst")

RECORDS: tuple[Format, ...] = ("jsonl", "parquet", "arrow", "csv")
"""Formats with fields, of which one holds the text."""

FORMATS = ", ".join(name for name in get_args(Format) if name != "auto")
"""The names of all formats, for messages."""


@dataclass(frozen=True)
class Options:
    """Settings of a source that its files are read by.

    Attributes:
        fields: Fields of records that are read; of Markdown, fields of the front matter.
        delimiter: Delimiter of CSV files; None for the one that parts the first row into the fields.
        split: Split of a data set that was saved to disk; None if it has only one.
        extracting: How the text of HTML, PDF and DOCX is extracted.
    """

    fields: Fields = field(default_factory=Fields)
    delimiter: str | None = None
    split: str | None = None
    extracting: Extracting = field(default_factory=Extracting)


def format_of(path: Path) -> Format | None:
    """Return the format by a file's name; compression suffixes are ignored."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def read(
    path: Path,
    format: Format = "auto",
    text_field: str = "text",
    files: ReadFiles | None = None,
    *,
    options: Options | None = None,
    chosen: Sequence[Path] | None = None,
) -> Generator[Item]:
    """Yield the documents of a file, or of every file in a folder (sorted; without hidden files).

    Args:
        format: Format of the file; "auto" goes by its name. In a folder, files of another format (and, with
            "auto", Python code and README files) are yielded as `Removed` with reason "other_format". A
            folder that a data set was saved to is read as that, with "auto" and "arrow".
        text_field: Field (JSONL) or column (Parquet, CSV) that holds the text; of no use with `options`.
        files: Receiver of the hash of every file that is read to its end, computed from the bytes that were
            read.
        options: How files are read.
        chosen: Files below the folder to read instead of all, in their order.

    Raises:
        SourceError: The content is unusable (names the file and the lines), or it is no regular file.
    """
    files, options = files or ReadFiles(), options or Options(Fields(text_field))
    with Extractions(options.extracting) as extractions:
        reader = _Reader(options, files, extractions)
        if not path.is_dir():
            yield from reader.read(path, path.name, _known_format(path, format))
        elif chosen is None and format in ("auto", "arrow") and is_saved_data_set(path):
            for file in saved_files(path, options.split):
                yield from reader.read(file, file.relative_to(path).as_posix(), "arrow")
        else:
            yield from _read_all(path, visible_files(path) if chosen is None else chosen, format, reader)


def _read_all(folder: Path, paths: Sequence[Path], format: Format, reader: _Reader) -> Iterator[Item]:
    """Yield the documents of files in their order; text of several files in a row is extracted at once."""
    files = ((path, path.relative_to(folder).as_posix(), _format_in_folder(path, format)) for path in paths)
    for extracted, group in groupby(files, lambda file: file[2] in LIBRARIES):
        if extracted:
            yield from reader.extract((path, name, str(found)) for path, name, found in group)
            continue
        for path, name, found in group:
            if found is None:
                yield Removed(_escaped(name), "other_format")
            else:
                yield from reader.read(path, name, found)


def _format_in_folder(path: Path, format: Format) -> Format | None:
    """Return the format by which a file of a folder is read; None if it is not read."""
    found = format_of(path)
    if format == "text" and found in (None, "markdown", "html"):
        return "text"
    stray = format == "auto" and (found == "python" or path.stem.lower() == "readme")
    return None if stray or format not in ("auto", found) else found


def _escaped(name: str) -> str:
    """Return a file's name with bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _known_format(path: Path, format: Format) -> Format:
    found = format_of(path) if format == "auto" else format
    if found is None:
        raise SourceError(
            f"{path}: its format cannot be told from its name",
            hint=f"Set format: {FORMATS}.",
        )
    return found


@dataclass(frozen=True)
class _Reader:
    """A reader of single files."""

    options: Options
    files: ReadFiles
    extractions: Extractions

    def read(self, path: Path, name: str, format: Format) -> Iterator[Item]:
        """Yield the documents of a file.

        Args:
            name: Id of the file's document, or prefix of their ids.
        """
        if format in LIBRARIES:
            yield from self.extract([(path, name, format)])
            return
        with _explained(path, name):
            yield from self._read(path, name, format)

    def extract(self, files: Iterable[tuple[Path, str, str]]) -> Iterator[Item]:
        """Yield the documents of files whose text must be extracted, several at once.

        Args:
            files: Path of each file, id of its document, and format.
        """

        def one(extraction: Extraction, path: Path, name: str, format: str) -> Item:
            with _explained(path, name):
                return extraction.read(path, name, format, self.files)

        yield from self.extractions.map(one, files)

    def _read(self, path: Path, name: str, format: Format) -> Iterator[Item]:
        fields, files = self.options.fields, self.files
        match format:
            case "jsonl":
                yield from read_jsonl(path, name, fields, files)
            case "parquet":
                yield from read_parquet(path, name, fields, files)
            case "arrow":
                yield from read_arrow(path, name, fields, files)
            case "csv":
                yield from read_csv(path, name, fields, self.options.delimiter, files)
            case "obo":
                yield from read_obo(path, files)
            case "python":
                with open_bytes(path, files) as stream:
                    source = read_whole(stream, path)
                yield from (Document(key, text) for key, text in prose_of(source, path))
            case "markdown":
                yield read_markdown(path, name, fields.metadata, files)
            case _:
                yield Document(name, read_text(path, files))


@contextlib.contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    """Refuse a file whose name is not UTF-8, and name the file in the system's errors."""
    if _escaped(name) != name:
        raise SourceError(
            f"{_escaped(str(path))}: the name of the file is not UTF-8", hint="Rename the file."
        )
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror or error}",
            hint="If it was downloaded or compressed, it may be cut off: get it again.",
        ) from error


__all__ = [
    "FORMATS",
    "LIBRARIES",
    "RECORDS",
    "Extracting",
    "Fields",
    "Format",
    "Options",
    "ReadFiles",
    "format_of",
    "missing_library",
    "read",
]
