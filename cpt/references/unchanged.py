"""Find sources that change between their fingerprint and their reading, so that nothing is cached of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cpt.errors import DataError
from cpt.references.cache import file_state, folder_sha256, visible_files
from cpt.references.files import open_file
from cpt.references.resolve import fingerprint
from cpt.references.syntax import HubFile, LocalPath, parse


def changed(source: str) -> DataError:
    """Return the error for a source whose content is not the one that was expected."""
    return DataError(
        f"{source} changed while it was read", hint="Run again when nothing writes to it any more."
    )


def require_read(reference: str, files: Mapping[Path, str], expected: str | None) -> None:
    """Raise unless the content that was read of a data reference has the expected fingerprint.

    Args:
        files: SHA-256 of the bytes that were read of each file (of a folder: of all its visible files).
        expected: Fingerprint of the reference; None if it is not known.

    Raises:
        DataError: The source changed.
    """
    parsed = parse(reference)
    if expected is None or (isinstance(parsed.place, HubFile) and parsed.sha256 is None):
        return  # a commit of the hub stands for its content
    place = parsed.place
    if isinstance(place, LocalPath) and place.path.is_dir():
        found = folder_sha256(place.path, files)
    else:
        found = "".join(files.values())
    if found != expected:
        raise changed(parsed.text)


@contextlib.contextmanager
def unchanged(references: Sequence[str], expected: Mapping[str, str]) -> Iterator[None]:
    """Raise if local sources are not what was fingerprinted, or change until the block ends.

    For readers that do not hash what they read. The time of a file's last change tells: it cannot be set
    back, so a file that is put back is noticed, too.

    Args:
        expected: Reference -> fingerprint; those that are not in it are not looked at.

    Raises:
        DataError: A source changed.
    """
    local = [each for each in references if each in expected and isinstance(parse(each).place, LocalPath)]
    before = {each: _states(each) for each in local}
    for each in local:
        if fingerprint(each) != expected[each]:
            raise changed(parse(each).text)
    yield
    for each in local:
        if _states(each) != before[each]:
            raise changed(parse(each).text)


def _states(reference: str) -> dict[Path, dict[str, int]]:
    place = parse(reference).place
    assert isinstance(place, LocalPath)
    found = {}
    for path in visible_files(place.path) if place.path.is_dir() else [place.path]:
        with open_file(path) as file:
            found[path] = file_state(file)
    return found
