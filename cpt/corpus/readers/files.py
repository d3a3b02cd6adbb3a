"""Read the bytes of a file: hashed while they are read, decompressed by suffix, decoded; and name its fields.

Names of fields and columns come from data, so messages quote and shorten them.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from cpt.corpus.documents import data_error
from cpt.errors import Problem, SourceError
from cpt.references.cache import file_state, open_file, opened_sha256, visible_files
from cpt.references.resolve import changed

MOST_BYTES = 1 << 30
"""Largest document and line, in bytes: Parquet and Arrow hold at most twice as much in one value."""

_BUFFER = 1 << 18
_NOT_UTF8 = "Convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8 old > new"


class ReadFiles:
    """The SHA-256 of the files of a source, computed from the bytes that were read."""

    def __init__(self) -> None:
        self.bytes_read = 0
        """Bytes of all files that were read so far."""
        self._hashes: dict[Path, str] = {}
        self._opened: dict[Path, dict[str, int]] = {}

    def opened(self, path: Path, state: dict[str, int]) -> None:
        """Note the state of a file whose reading begins, which may end early."""
        self._opened[path] = state

    def add(self, path: Path, sha256: str) -> None:
        """Note the hash of a file that was read to its end."""
        self._hashes[path] = sha256

    def of(self, path: Path, chosen: Sequence[Path] | None = None) -> dict[Path, str]:
        """Return the hash of a file, or of all files in a folder; files not read to their end are hashed now.

        Args:
            chosen: Files of the folder to return instead of all.

        Raises:
            DataError: A file that was read in part changed since.
        """
        files: Sequence[Path] = visible_files(path) if path.is_dir() else [path]
        files = files if chosen is None else chosen
        return {file: self._hashes.get(file) or self._unread(file) for file in files}

    def _unread(self, path: Path) -> str:
        with open_file(path) as file:
            if self._opened.get(path, file_state(file)) != file_state(file):
                raise changed(str(path))
            return opened_sha256(file, path)


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, path: Path, files: ReadFiles | None) -> None:
        self._file = open_file(path)
        self._files = files or ReadFiles()
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._sha256.update(memoryview(buffer)[:count])
        self._files.bytes_read += count
        return count

    def state(self) -> dict[str, int]:
        """Return the state of the open file."""
        return file_state(self._file)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def finish(self) -> str:
        """Read the rest of the file, and return the hash of the whole."""
        rest = bytearray(_BUFFER)
        while self.readinto(rest):
            pass
        return self._sha256.hexdigest()


@contextlib.contextmanager
def open_bytes(path: Path, files: ReadFiles | None = None) -> Iterator[io.BufferedReader]:
    """Open a file; .gz and .zst are decompressed on the fly.

    Reading raises OSError at a truncated or damaged compressed stream (zstandard's own reader ends silently
    there).

    Args:
        files: Receiver of the file's hash, added when the reader ends without an error.

    Raises:
        SourceError: It is no regular file.
    """
    import pyarrow as pa

    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    with _Hashed(path, files) as raw:
        if files is not None:
            files.opened(path, raw.state())
        if compression is None:
            yield io.BufferedReader(raw, _BUFFER)
        else:
            decompressed = pa.input_stream(io.BufferedReader(raw, _BUFFER), compression=compression)
            yield io.BufferedReader(cast(io.RawIOBase, decompressed), _BUFFER)
        if files is not None:
            files.add(path, raw.finish())


@contextlib.contextmanager
def open_seekable(path: Path, files: ReadFiles | None = None) -> Iterator[io.FileIO]:
    """Open a file for random access. Its hash is that of the same, unchanged open file.

    Raises:
        DataError: It changed while it was read.
    """
    with open_file(path) as file:
        before = file_state(file)
        sha256 = opened_sha256(file, path) if files is not None else ""
        file.seek(0)
        if files is not None:
            files.bytes_read += path.stat().st_size
        try:
            yield file
        finally:  # also when no more documents are wanted
            if file_state(file) != before:
                raise changed(str(path))
            if files is not None:
                files.add(path, sha256)


def read_lines(stream: io.BufferedReader, path: Path) -> Iterator[bytes]:
    """Yield the lines of a stream.

    Raises:
        SourceError: A line is longer than `MOST_BYTES`.
    """
    number = 0
    while line := stream.readline(MOST_BYTES + 1):
        number += 1
        if len(line) > MOST_BYTES:
            raise SourceError(
                f"{path}:{number}: the line is longer than {MOST_BYTES:,} bytes", hint=_TOO_LONG
            )
        yield line
        del line  # otherwise a long line is held while the next one is read


_TOO_LONG = "Divide it into several documents."


def read_whole(stream: io.BufferedReader, path: Path) -> bytes:
    """Return all bytes of a stream.

    Raises:
        SourceError: There are more than `MOST_BYTES`.
    """
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise SourceError(f"{path}: the document is longer than {MOST_BYTES:,} bytes", hint=_TOO_LONG)
    return content


def decode(data: bytes, path: Path, first_line: int = 1) -> str | Problem:
    """Decode UTF-8 bytes (a byte order mark at the file's start is dropped), or return their problem."""
    encoding = "utf-8-sig" if first_line == 1 else "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (len(data) - len(error.object))
        line = first_line + data.count(b"\n", 0, start)
        column = start - (data.rfind(b"\n", 0, start) + 1) + 1
        return Problem(
            f"not UTF-8: byte 0x{data[start]:02x} at byte {column} of the line",
            file=str(path),
            line=line,
            hint=_NOT_UTF8,
        )


_MOST = 10
_COMPARED = 1000
_LONGEST = 80


def quoted(name: str) -> str:
    """Return a name in quotes, with control characters escaped, shortened if it is long."""
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")


def listed(names: Iterable[str]) -> str:
    """Return the first names for a message."""
    return ", ".join(shown(name) for name in islice(names, _MOST)) or "none"


def shown(name: str) -> str:
    """Return a name as it is if it is short and printable, and in quotes otherwise."""
    return name if name.isprintable() and 0 < len(name) <= _LONGEST else quoted(name)


def nearest(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the name that is most like the wanted one, if any is; very long ones are not compared."""
    compared = [name for name in islice(names, _COMPARED) if len(name) <= _LONGEST]
    return difflib.get_close_matches(wanted, compared, n=1)


def read_text(path: Path, files: ReadFiles | None = None) -> str:
    """Read a UTF-8 file, optionally compressed, as one document.

    Raises:
        SourceError: It is not UTF-8, or too long; names the place.
        OSError: The compressed stream is damaged or truncated.
    """
    with open_bytes(path, files) as stream:
        text = decode(read_whole(stream, path), path)
    if isinstance(text, Problem):
        raise data_error([text])
    return text
