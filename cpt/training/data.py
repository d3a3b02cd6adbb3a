"""What the loop needs of a training stream, whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from cpt.packed.batch import PackedBatch, pack


class PackedSequence(Protocol):
    """Whole documents, or parts of long ones, laid end to end."""

    @property
    def source(self) -> str: ...

    @property
    def tokens(self) -> np.ndarray: ...

    @property
    def piece_lengths(self) -> np.ndarray: ...


class Stream(Protocol):
    """Global batches as a pure function of the step: nothing is consumed, so nothing is restored."""

    def batch(self, step: int) -> Sequence[PackedSequence]:
        """The sequences of global batch `step`, in order."""

    def ledger(self, steps: int) -> Mapping[str, Mapping[str, float]]:
        """What the first `steps` batches hold, by source: sequences, tokens, epochs."""


def pieces(sequence: PackedSequence) -> list[np.ndarray]:
    """The documents (or parts) of a sequence."""
    return np.split(np.asarray(sequence.tokens), np.cumsum(sequence.piece_lengths)[:-1])


def pack_sequences(sequences: Sequence[PackedSequence]) -> PackedBatch:
    """One packed row of the documents of several sequences."""
    return pack([piece for sequence in sequences for piece in pieces(sequence)])


def target_count(sequences: Sequence[PackedSequence]) -> int:
    """Positions on which a loss is taken: every token but the last of each piece."""
    return sum(len(sequence.tokens) - len(sequence.piece_lengths) for sequence in sequences)
