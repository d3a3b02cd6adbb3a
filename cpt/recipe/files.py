"""Small files that are either wholly there or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cpt.durable import write_text


def write_json(path: Path, data: Any) -> None:
    """Write JSON beside its place, flush it to the disk, then rename it into place."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The file's data, or None where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
