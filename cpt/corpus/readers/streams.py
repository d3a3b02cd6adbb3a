"""Bytes of a file, decompressed by its suffix, and their decoding."""

from __future__ import annotations

import io
from pathlib import Path

from cpt.errors import Problem

_NOT_UTF8 = "Convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8 old > new"


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file; .gz and .zst are decompressed on the fly.

    Reading raises OSError at a truncated or damaged compressed stream (zstandard's own reader ends
    silently there).
    """
    import pyarrow as pa

    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    return io.BufferedReader(pa.input_stream(str(path), compression=compression))


def decode(data: bytes, path: Path, first_line: int = 1) -> str | Problem:
    """Text of UTF-8 bytes (a byte order mark at the file's start is dropped), or what is wrong with them."""
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
