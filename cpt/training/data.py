"""Making the next thing while the last one is used.

What the loop needs of a training stream, whoever makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch

from cpt.models.batch import PackedBatch, pack

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`make` of every item, in order, the next one in a thread while the caller is busy with the last.

    What `make` raises is raised where its result would have come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as worker:
        waiting: Future[Made] | None = None
        for item in items:
            following = worker.submit(make, item)
            if waiting:
                yield waiting.result()
            waiting = following
        if waiting:
            yield waiting.result()


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


class PhasedStream(Stream, Protocol):
    """A stream whose share of replay rows may change on the way."""

    @property
    def batch_sequences(self) -> int: ...

    def rows(self, step: int) -> Mapping[str, int]:
        """Rows of each source in global batch `step`."""

    def with_phases(self, phases: Sequence[tuple[int, int]]) -> PhasedStream:
        """The same stream with replay rows by phases of (first step, rows)."""


def pieces(sequence: PackedSequence) -> list[np.ndarray]:
    """The documents (or parts) of a sequence."""
    return np.split(np.asarray(sequence.tokens), np.cumsum(sequence.piece_lengths)[:-1])


def pack_sequences(sequences: Sequence[PackedSequence]) -> PackedBatch:
    """One packed row of the documents of several sequences."""
    return pack([piece for sequence in sequences for piece in pieces(sequence)])


def micro_batches(parts: Sequence[Sequence[PackedSequence]], device: torch.device) -> Iterator[PackedBatch]:
    """The sequences of each part in one packed row, on the device.

    For a GPU the next row is packed, in page-locked memory, while the model works on the last. A processor
    has no time to spare: it packs a row in a thousandth of the time that the model takes for it.
    """
    if device.type != "cuda":
        yield from (pack_sequences(part).to(device) for part in parts)
        return
    for packed in one_ahead(lambda part: pack_sequences(part).pin_memory(), parts):
        yield packed.to(device)


def target_count(sequences: Sequence[PackedSequence]) -> int:
    """Positions on which a loss is taken: every token but the last of each piece."""
    return sum(len(sequence.tokens) - len(sequence.piece_lengths) for sequence in sequences)
