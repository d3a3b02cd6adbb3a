"""Where a run stands, and what a finished one knows of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpt.errors import StageFailed
from cpt.monitor.probes import Reading
from cpt.training.data import PackedSequence, Stream


@dataclass
class State:
    """Where a run stands. Saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    readings: list[dict[str, Any]] = field(default_factory=list)
    log_bytes: int = 0

    def count(self, batch: Sequence[PackedSequence]) -> None:
        """Enter a trained global batch."""
        self.step += 1
        for sequence in batch:
            entry = self.counted.setdefault(sequence.source, {"sequences": 0, "tokens": 0})
            entry["sequences"] += 1
            entry["tokens"] += len(sequence.tokens)
            self.tokens += len(sequence.tokens)

    def checked_ledger(self, stream: Stream) -> Mapping[str, Mapping[str, float]]:
        """The stream's own account of the run, which must equal what was counted."""
        ledger = stream.ledger(self.step)
        for source, entry in ledger.items():
            counted = self.counted.get(source, {"sequences": 0, "tokens": 0})
            if any(entry[key] != counted[key] for key in ("sequences", "tokens")):
                raise StageFailed(
                    f"by the ledger {entry['tokens']:.0f} tokens of {source} were trained on, "
                    f"by the loop {counted['tokens']}"
                )
        return ledger


@dataclass(frozen=True)
class Result:
    """What a finished training run knows of itself; `ledger` is checked against what the loop counted."""

    steps: int
    tokens: int
    seconds: float
    ledger: Mapping[str, Mapping[str, float]]
    readings: list[Reading]
