"""Find the local files that match a pattern."""

from __future__ import annotations

from pathlib import Path

from cpt.errors import MissingInput
from cpt.references.syntax import LocalPattern


def matches(location: LocalPattern) -> list[Path]:
    """Return the regular files that match, sorted, without hidden ones."""
    root = location.root
    if not root.is_dir():
        return []
    found = {path for path in root.glob(location.pattern) if path.is_file()}
    parts = {path: path.relative_to(root).parts for path in found}
    visible = [path for path in found if not any(part.startswith(".") for part in parts[path])]
    return sorted(visible, key=lambda path: path.relative_to(root).as_posix())


def required_matches(location: LocalPattern) -> list[Path]:
    """Return the files that match.

    Raises:
        MissingInput: There are none.
    """
    found = matches(location)
    if not found:
        raise MissingInput(
            f"no file matches {location.root / location.pattern}",
            hint="* stands for a part of a name, ** for any folders; hidden files do not count.",
        )
    return found
