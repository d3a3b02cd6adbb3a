"""Writes a benchmark's figures to `benchmarks/results/NAME.json`, with what is needed to reproduce them."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("torch", "transformers", "accelerate", "mergekit", "lm-eval", "cpt-workbench")


def write(name: str, figures: dict[str, Any]) -> Path:
    """Write the figures of one benchmark and return the file."""
    record = {
        "command": shlex.join(["python", *map(_without_folder, sys.argv)]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(_named(record), indent=2) + "\n", encoding="utf-8")
    return path


def _named(data: Any) -> Any:
    """Return plain data with the last part alone of every absolute path in its words."""
    if isinstance(data, dict):
        named = [_named(key) for key in data]
        keys = named if len(set(named)) == len(named) else list(data)
        return {key: _named(value) for key, value in zip(keys, data.values(), strict=True)}
    if isinstance(data, list | tuple):
        return [_named(value) for value in data]
    return _without_folder(data) if isinstance(data, str) else data


def _without_folder(word: str) -> str:
    """Return a word of the command line with the last part alone of every absolute path in it."""
    return re.sub(r"(?<![^\s,='\"])/(?!\d)[^\s,='\"]*/([^\s,='\"/]+)", r"\1", word)


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
