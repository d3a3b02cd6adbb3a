"""A model's folder that is there whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpt import atomic
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
    made_for_it = [folder for folder in output.parents if not folder.exists()]
    try:
        aside = _place_aside(output, needed)
        yield aside
        atomic.flush(aside)
        if output.is_dir():
            output.rmdir()
        aside.rename(output)
        atomic.flush_one(output.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(output.parent, needed, shutil.disk_usage(output.parent).free) from error
        raise StageFailed(f"the merge cannot be written to {output}: {error.strerror}") from error
    finally:
        shutil.rmtree(_aside(output), ignore_errors=True)
        for folder in made_for_it:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()


def _aside(output: Path) -> Path:
    return output.with_name(f".{output.name}.unfinished")


def _place_aside(output: Path, needed: int) -> Path:
    """An empty folder beside the output."""
    aside = _aside(output)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise CannotMerge([f"nothing can be written beside {output}: {error.strerror}"]) from error
    free = shutil.disk_usage(aside).free
    if free < needed + _MARGIN:
        raise DiskFull(output.parent, needed, free)
    return aside
