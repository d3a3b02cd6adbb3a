"""Small files that are either wholly there or not there at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cpt.atomic import write_text
from cpt.errors import DamagedFile
from cpt.escaping import escape_controls
from cpt.json_file import read_json

_HALVES = re.compile("[\ud800-\udfff]")
"""Matches Python's stand-in for a byte that is not UTF-8; a file cannot hold it."""


def write_json(path: Path, data: Any) -> None:
    """Write JSON beside its place, flush it to the disk, then rename it into place."""
    text = _HALVES.sub("\ufffd", json.dumps(data, indent=2, ensure_ascii=False))
    write_text(path, escape_controls(text) + "\n")


def read_or_none(path: Path, shape: Any) -> Any:
    """Read a note that a run can do without; None where it is missing or damaged."""
    try:
        return read_json(path, shape)
    except DamagedFile:
        return None
