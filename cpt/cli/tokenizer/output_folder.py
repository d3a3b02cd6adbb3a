"""A new folder that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpt.errors import UsageError
from cpt.recipe.stopping import stoppable


def check_free(output: Path) -> None:
    """Raise unless nothing stands where the result is to be written."""
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(f"{output} exists already", hint="Choose another --out, or remove it first.")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name when all went well.

    When not, also on Ctrl-C and SIGTERM, nothing is left of it, nor of folders made to hold it.
    """
    check_free(output)
    output = output.absolute()
    made_for_it = [folder for folder in output.parents if not folder.exists()]
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        with stoppable():
            made = scratch / output.name
            made.mkdir()
            yield made
            if output.is_dir():
                output.rmdir()
            made.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made_for_it:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()
