"""Lock a run's folder while a process writes to it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"


_PAUSE = 0.05
"""Seconds between two attempts."""


class FolderLock:
    """A lock that keeps all other processes out of a folder: of its `.lock` file and of the folder itself.

    A file can be removed while it is locked; the next process then locks another one of that name. A folder
    with something in it cannot. On NFS a folder is locked for one machine only, the file for all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = FileLock(folder / LOCK_FILE, timeout=0)
        self._descriptor: int | None = None
        self._seen: tuple[int, int] | None = None

    def acquire(self, patience: float) -> bool:
        """Take the lock. Return False if another process holds it for `patience` seconds."""
        until = time.monotonic() + patience
        while not self._taken():
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE)
        self._seen = self._identity()
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._file.release()

    def held(self) -> bool:
        """Return True if the locked file or folder was neither removed nor replaced."""
        return self._identity() == self._seen

    def _taken(self) -> bool:
        try:
            self._file.acquire()
        except Timeout:
            return False
        try:
            self._descriptor = _lock_folder(self._folder, shared=False)
        except BlockingIOError:
            self._file.release()
            return False
        return True

    def _identity(self) -> tuple[int, int] | None:
        """Return device and inode at the lock's path: of the folder if that is locked, else of the file."""
        path = self._folder if self._descriptor is not None else self._folder / LOCK_FILE
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def is_held(folder: Path) -> bool:
    """Return True if a process holds a folder at this moment. Create nothing."""
    try:
        descriptor = _lock_folder(folder, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if descriptor is not None:  # on NFS that says nothing of other machines: look at the file as well
        os.close(descriptor)
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # another user's
        return False


def _lock_folder(folder: Path, *, shared: bool) -> int | None:
    """Lock a folder itself, and return the descriptor that holds it; None where the system locks files only.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks of folders
        os.close(descriptor)
        return None
    return descriptor
