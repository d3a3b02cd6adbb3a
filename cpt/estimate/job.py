"""The run to estimate, in the detail that its memory and its time depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cpt.sources import DOMAIN, REPLAY

if TYPE_CHECKING:
    from cpt.training.settings import Settings

"""Sources of sequences."""

Lengths = tuple[int, ...]
"""Number of tokens of each document (or part of one) in a packed sequence."""

MOST_DOCUMENTS = 2048
"""Largest number of documents of a micro batch that is simulated: each takes some milliseconds."""


@dataclass(frozen=True)
class Job:
    """A training run.

    Attributes:
        architecture: Configuration of the model (transformers).
        settings: Settings of the training loop.
        sequences: Document lengths of each sequence of the heaviest global batch, heaviest first.
        probe: Document lengths of a batch that a probe reads; empty without probes.
        probe_tokens: Number of tokens in forward passes that cost the same as all readings of all probes.
        processes: Number of processes that share every global batch.
        sharded: True if each process has a part of the weights instead of all of them.
        replicas: Number of groups of processes that each shard all weights.
        replay_rows: Largest number of replay sequences in a global batch.
        fewest_replay_rows: Smallest number of them; None: the same in every batch.
    """

    architecture: Any
    settings: Settings
    sequences: tuple[Lengths, ...]
    probe: Lengths = ()
    probe_tokens: int = 0
    processes: int = 1
    sharded: bool = False
    replicas: int = 1
    replay_rows: int = 0
    fewest_replay_rows: int | None = None

    @property
    def shards(self) -> int:
        """Return the number of processes that the weights are sharded over; 1: each has all of them."""
        return self.processes // self.replicas if self.sharded else 1

    @property
    def own_sequences(self) -> int:
        """Return the number of sequences of a global batch in one process."""
        return math.ceil(len(self.sequences) / self.processes)

    @property
    def accumulation(self) -> int:
        """Return the number of micro batches of a process in one step."""
        return math.ceil(self.own_sequences / self.settings.micro_batch)

    @property
    def heaviest(self) -> Lengths:
        """Return the document lengths of the micro batch that needs the most memory."""
        return tuple(
            length for sequence in self.sequences[: self.settings.micro_batch] for length in sequence
        )

    @property
    def can_be_simulated(self) -> bool:
        """Return True if a simulation of the run takes at most about a minute."""
        return len(self.heaviest) <= MOST_DOCUMENTS

    @property
    def sub_batches(self) -> dict[str, Lengths]:
        """Return the document lengths of the largest domain and replay sub-batch of a micro batch."""
        fewest = self.replay_rows if self.fewest_replay_rows is None else self.fewest_replay_rows
        rows = {DOMAIN: len(self.sequences) - fewest, REPLAY: self.replay_rows}
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
        """Return the same run with other micro batches: the trained weights do not depend on them."""
        return replace(self, settings=self.settings.with_changes(micro_batch=size))

    def with_checkpointing(self) -> Job:
        """Return the same run with gradient checkpointing."""
        return replace(self, settings=self.settings.with_changes(gradient_checkpointing=True))


def heaviness(lengths: Lengths, architecture: Any) -> int:
    """Return a rank of packed sequences by memory: it grows with tokens and with pairs of tokens."""
    config = architecture.get_text_config()
    return sum(length * (16 * config.hidden_size + config.num_attention_heads * length) for length in lengths)


def mean_context(sequences: tuple[Lengths, ...]) -> float:
    """Return the mean document length over tokens: Σ length² / Σ length."""
    lengths = [length for sequence in sequences for length in sequence]
    return sum(length * length for length in lengths) / sum(lengths)
