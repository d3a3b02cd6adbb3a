"""What every contender is told and what it reports; needs nothing but Python and NumPy."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """A few optimizer steps of full-parameter training in bfloat16.

    Attributes:
        model: a Hugging Face folder, or of random weights the name of a shape.
        data: folder with `rows.npz` (packed token ids and where documents end), and for contenders that pack
            for themselves `texts.jsonl`.
        steps: optimizer steps, the first of which only warms up.
        checkpoint_every: steps between checkpoints, 0 for none.
    """

    model: str
    data: str
    steps: int
    length: int
    micro_batch: int
    accumulate: int
    checkpoint_every: int
    compile: bool | str
    gradient_checkpointing: bool
    profile: bool
    precision: str = "bf16"

    @property
    def rows_per_step(self) -> int:
        """Sequences of a global batch."""
        return self.micro_batch * self.accumulate

    def rows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids and document lengths of every packed sequence."""
        with np.load(Path(self.data) / "rows.npz") as file:
            tokens = np.split(file["tokens"], np.cumsum(file["row_lengths"])[:-1])
            documents = np.split(file["document_lengths"], np.cumsum(file["row_documents"])[:-1])
        return list(zip(tokens, documents, strict=True))


def read() -> Job:
    """The job in the file that the first argument names."""
    return Job(**json.loads(Path(sys.argv[1]).read_text()))


def report(seconds: list[float], tokens_per_step: float, blocked: list[float], **more: Any) -> None:
    """Write the result to the file that the second argument names.

    Args:
        seconds: of every optimizer step.
        blocked: seconds that each checkpoint kept the training from going on.
    """
    result = {"seconds": seconds, "tokens_per_step": tokens_per_step, "blocked": blocked, **more}
    Path(sys.argv[2]).write_text(json.dumps({"peak_bytes": _peak_bytes(), **result}))


def _peak_bytes() -> int | None:
    """The most memory that this process has had at once, where the system tells it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
