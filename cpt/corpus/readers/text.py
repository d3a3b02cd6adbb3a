"""Plain text: a whole file is one document."""

from __future__ import annotations

from pathlib import Path

from cpt.corpus.documents import data_error
from cpt.corpus.readers.streams import ReadFiles, decode, open_bytes, read_whole
from cpt.errors import Problem


def read_text(path: Path, files: ReadFiles | None = None) -> str:
    """Text of a UTF-8 file, optionally compressed.

    Raises:
        SourceError: Not UTF-8, or too long; says where.
        OSError: The compressed stream is damaged or truncated.
    """
    with open_bytes(path, files) as stream:
        text = decode(read_whole(stream, path), path)
    if isinstance(text, Problem):
        raise data_error([text])
    return text
