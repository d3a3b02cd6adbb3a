"""Tell a peer of the comparison at equal time what to train, and report its steps; needs only Python."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WARMUP = 0.1
"""Share of the steps in which the rate rises, as in LLaMA-Factory's examples of pre-training."""


@dataclass(frozen=True)
class PeerJob:
    """Read a text, train on it, and write the model.

    Attributes:
        model: Hugging Face folder.
        text: JSONL file of documents in the field `text`.
        output: Folder for the model or the adapter.
        steps: Number of optimizer steps.
        length: Tokens of a sequence.
        rows: Number of sequences of a global batch.
        at_once: Number of sequences that go through the model at once.
        rate: Peak of the learning rate.
        processes: Processes that tokenise.
    """

    model: str
    text: str
    output: str
    steps: int
    length: int
    rows: int
    at_once: int
    rate: float
    seed: int
    bf16: bool
    processes: int
    trainable: Literal["full", "lora"] = "full"

    @property
    def accumulate(self) -> int:
        """Number of times that sequences go through the model for one step."""
        return self.rows // self.at_once

    @property
    def warmup_steps(self) -> int:
        """Number of steps in which the rate rises."""
        return max(1, round(WARMUP * self.steps))


def read() -> PeerJob:
    """Return the job in the file that the first argument names."""
    return PeerJob(**json.loads(Path(sys.argv[1]).read_text()))


def report(seconds: list[float]) -> None:
    """Write the seconds of every optimizer step to the file that the second argument names."""
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds}))
