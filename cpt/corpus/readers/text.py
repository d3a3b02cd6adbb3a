"""Plain text: a whole file is one document."""

from __future__ import annotations

from pathlib import Path

from cpt.corpus.documents import data_error
from cpt.corpus.readers.streams import decode, open_bytes
from cpt.errors import Problem


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, optionally compressed.

    Raises:
        DataError: Not UTF-8; says where.
        OSError: The compressed stream is damaged or truncated.
    """
    with open_bytes(path) as stream:
        text = decode(stream.read(), path)
    if isinstance(text, Problem):
        raise data_error([text])
    return text
