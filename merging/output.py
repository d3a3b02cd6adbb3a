"""A model's folder that is there whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpt.atomic import atomic_folder
from cpt.errors import CannotMerge, DiskFull, StageFailed

_MARGIN = 2**26


def check_free(output: Path) -> None:
    """Check that nothing stands where the result is to be, and that it can be written there.

    Raises:
        CannotMerge: says why not.
    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise CannotMerge([f"{output} exists already"], hint="Choose another folder, or remove it first.")


@contextmanager
def written_whole(output: Path, needed: int) -> Iterator[Path]:
    """A folder beside the output, under a hidden name, that takes its place, flushed, when all went well.

    When not, nothing is left of it, nor of folders made to hold it. What a killed merge left there is
    removed first.

    Args:
        needed: bytes that will be written.

    Raises:
        CannotMerge: there is something at `output`, or its folder cannot be written to.
        DiskFull: the result does not fit on the disk.
        StageFailed: it cannot be written.
    """
    check_free(output)
    output = output.absolute()
    writable = False
    try:
        with atomic_folder(output) as folder:
            writable = True
            _require_space(output, folder, needed)
            yield folder
    except OSError as error:
        if not writable:
            raise CannotMerge([f"nothing can be written beside {output}: {error.strerror}"]) from error
        if error.errno == errno.ENOSPC:
            raise DiskFull(output.parent, needed, shutil.disk_usage(output.parent).free) from error
        raise StageFailed(f"the merge cannot be written to {output}: {error.strerror}") from error


def _require_space(output: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise DiskFull(output.parent, needed, free)
