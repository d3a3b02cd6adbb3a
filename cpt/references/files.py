"""Regular files only: a device, a pipe or a socket has no content that can be read twice, or no end."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from cpt.errors import SourceError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_HINT = "Write its content to a file and name that: content is read more than once, and must have an end."
# A pipe that takes a file's place after it was looked at must not block the opening either.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def special_kind(path: Path) -> str | None:
    """Return what an existing path is if it is neither a file nor a folder; links are followed."""
    return _kind(path.stat().st_mode)


def refusal(path: Path, kind: str) -> SourceError:
    """Return the error for a path that is neither a file nor a folder."""
    return SourceError(f"{path} is {kind}, not a file or folder", hint=_HINT)


def open_file(path: Path) -> io.FileIO:
    """Open a regular file for unbuffered reading; anything else is refused before it is opened.

    Raises:
        SourceError: It is a device, a pipe or a socket.
        OSError: It does not exist, is a folder, or cannot be read.
    """
    kind = special_kind(path)
    if kind is None:
        file = io.FileIO(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))
        kind = _kind(os.fstat(file.fileno()).st_mode)
        if kind is None:
            return file
        file.close()
    raise refusal(path, kind)


def _kind(mode: int) -> str | None:
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "special")
