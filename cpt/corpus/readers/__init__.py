"""Read files as a stream of documents and of entries left out: one module per format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.readers.files import ReadFiles, open_bytes, read_text, read_whole
from cpt.corpus.readers.jsonl import read_jsonl
from cpt.corpus.readers.obo import read_obo
from cpt.corpus.readers.parquet import read_parquet
from cpt.errors import SourceError
from cpt.references.cache import visible_files
from cpt.references.prose import prose_of

Format = Literal["auto", "jsonl", "parquet", "text", "obo", "python"]

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".obo": "obo",
    ".py": "python",
}
_COMPRESSED = (".gz", ".zst")


def format_of(path: Path) -> Format | None:
    """Return the format by a file's name; compression suffixes are ignored."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def read(
    path: Path, format: Format = "auto", text_field: str = "text", files: ReadFiles | None = None
) -> Iterator[Item]:
    """Yield the documents of a file, or of every file in a folder (sorted; without hidden files).

    Args:
        format: Format of the file; "auto" goes by its name. In a folder, files of another format (and, with
            "auto", Python code) are yielded as `Removed` with reason "other_format".
        text_field: Field (JSONL) or column (Parquet) that holds the text.
        files: Receiver of the hash of every file that is read to its end, computed from the bytes that were
            read.

    Raises:
        SourceError: The content is unusable (names the file and the lines), or it is no regular file.
    """
    files = files or ReadFiles()
    if not path.is_dir():
        yield from _read_file(path, path.name, _known_format(path, format), text_field, files)
        return
    for file in visible_files(path):
        name, found = file.relative_to(path).as_posix(), format_of(file)
        if found is None and format == "text":
            found = "text"
        stray_code = found == "python" and format == "auto"
        if found is None or stray_code or format not in ("auto", found):
            yield Removed(name, "other_format")
        else:
            yield from _read_file(file, name, found, text_field, files)


def _known_format(path: Path, format: Format) -> Format:
    found = format_of(path) if format == "auto" else format
    if found is None:
        raise SourceError(
            f"{path}: its format cannot be told from its name",
            hint="Set format: jsonl, parquet, text, obo or python for this source.",
        )
    return found


def _read_file(path: Path, name: str, format: Format, text_field: str, files: ReadFiles) -> Iterator[Item]:
    try:
        match format:
            case "jsonl":
                yield from read_jsonl(path, name, text_field, files)
            case "parquet":
                yield from read_parquet(path, name, text_field, files)
            case "obo":
                yield from read_obo(path, files)
            case "python":
                with open_bytes(path, files) as stream:
                    source = read_whole(stream, path)
                yield from (Document(key, text) for key, text in prose_of(source, path))
            case _:
                yield Document(name, read_text(path, files))
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror or error}",
            hint="If it was downloaded or compressed, it may be cut off: get it again.",
        ) from error
