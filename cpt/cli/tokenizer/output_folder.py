"""A new folder that is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cpt.atomic import publish_folder
from cpt.errors import UsageError
from cpt.recipe.failures import interruptible


def check_free(output: Path) -> None:
    """Raise unless nothing stands where the result is to be written."""
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(f"{output} exists already", hint="Choose another --out, or remove it first.")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that takes its name when all went well.

    When not, also on Ctrl-C and SIGTERM, nothing is left of it, nor of folders made to hold it. What a killed
    process left there is removed first: a lock tells it from what another process is writing.

    Raises:
        UsageError: there is something at `output`, or another process is writing it.
        Interrupted: Ctrl-C. Terminated: SIGTERM.
    """
    check_free(output)
    output = output.absolute()
    made_for_it = [folder for folder in output.parents if not folder.exists()]
    scratch = output.with_name(f".{output.name}.unfinished")
    scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(scratch / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"another process is writing {output}", hint="Wait for it, or choose another --out."
        ) from error
    try:
        with interruptible():
            made = scratch / output.name
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            yield made
            publish_folder(made, output, durable=False)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()
        for folder in made_for_it:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()
