"""What is estimated: one training run, in as much detail as its memory and its time depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cpt.sources import DOMAIN, REPLAY

if TYPE_CHECKING:
    from cpt.training.settings import Settings

"""Sources of sequences."""

Lengths = tuple[int, ...]
"""Tokens of each document (or part of one) of a packed sequence."""

MOST_DOCUMENTS = 2048
"""Most documents of a micro batch that are gone through: each takes some milliseconds."""


@dataclass(frozen=True)
class Job:
    """A training run.

    Attributes:
        architecture: the model's configuration (transformers).
        settings: how it trains, as the loop is told.
        sequences: document lengths of each sequence of the heaviest global batch, heaviest first.
        probe: document lengths of what a probe reads at once; none without probes.
        probe_tokens: that go forward for what all readings of all probes cost.
        processes: each has a share of every global batch.
        divided: whether each has a part of the weights, and not a whole copy of the model.
        replay_rows: sequences of a global batch that are replay text.
    """

    architecture: Any
    settings: Settings
    sequences: tuple[Lengths, ...]
    probe: Lengths = ()
    probe_tokens: int = 0
    processes: int = 1
    divided: bool = False
    replay_rows: int = 0

    @property
    def own_sequences(self) -> int:
        """Sequences of a global batch that one process has."""
        return math.ceil(len(self.sequences) / self.processes)

    @property
    def accumulation(self) -> int:
        """Micro batches that a process takes for one step."""
        return math.ceil(self.own_sequences / self.settings.micro_batch)

    @property
    def heaviest(self) -> Lengths:
        """Document lengths of the micro batch that takes most memory."""
        return tuple(
            length for sequence in self.sequences[: self.settings.micro_batch] for length in sequence
        )

    @property
    def can_be_rehearsed(self) -> bool:
        """Return True if going through the run takes no longer than one waits for an estimate."""
        return len(self.heaviest) <= MOST_DOCUMENTS

    @property
    def lots(self) -> dict[str, Lengths]:
        """Document lengths of the most domain rows, and of the most replay rows, of a micro batch."""
        rows = {DOMAIN: len(self.sequences) - self.replay_rows, REPLAY: self.replay_rows}
        return {
            source: tuple(
                length
                for sequence in self.sequences[: min(count, self.settings.micro_batch)]
                for length in sequence
            )
            for source, count in rows.items()
            if count
        }

    def with_micro_batch(self, size: int) -> Job:
        """The same run with other micro batches: what it learns does not change."""
        return replace(self, settings=replace(self.settings, micro_batch=size))

    def with_recomputation(self) -> Job:
        """The same run with gradient checkpointing."""
        return replace(self, settings=replace(self.settings, gradient_checkpointing=True))


def heaviness(lengths: Lengths, architecture: Any) -> int:
    """Ranks packed sequences by the memory that they take: what grows with tokens, and with their pairs."""
    config = architecture.get_text_config()
    return sum(length * (16 * config.hidden_size + config.num_attention_heads * length) for length in lengths)


def mean_context(sequences: tuple[Lengths, ...]) -> float:
    """Tokens in the document of a token drawn at random: Σ length² / Σ length."""
    lengths = [length for sequence in sequences for length in sequence]
    return sum(length * length for length in lengths) / sum(lengths)
