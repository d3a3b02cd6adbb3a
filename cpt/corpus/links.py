"""Make files appear in other folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_all(source: Path, target: Path) -> None:
    """Make all files of a folder appear in another one too."""
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        link(path, target / path.relative_to(source))


def link(source: Path, target: Path) -> None:
    """Make a file appear in another folder too, by a hard link or else by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
