"""What the time budget gave to probes, step by step, on the disk before anything was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cpt.monitor.budget import Allotment
from cpt.training.log import StepLog


class Journal:
    """An append-only file of decisions. Those of steps that run again after a kill are found in it."""

    def __init__(self, path: Path) -> None:
        """Open it, without a last line that was cut off."""
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        self._decided = {
            entry["step"]: {name: Allotment(*pair) for name, pair in entry["given"].items()}
            for entry in map(json.loads, whole.splitlines())
        }
        self._file = StepLog(path, len(whole))

    def decided(self, step: int) -> dict[str, Allotment] | None:
        """What was given after a step, if that is decided."""
        return self._decided.get(step)

    def write(self, step: int, allotted: Mapping[str, Allotment]) -> None:
        """Note what is given, on the disk when this returns; what is noted already stays."""
        if step in self._decided:
            return
        self._decided[step] = dict(allotted)
        self._file.write({"step": step, "given": {n: [a.share, a.saved] for n, a in allotted.items()}})
        self._file.length()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
