"""Define the training stream that the loop reads, and pack its micro batches ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch

from cpt.models.batch import PackedBatch, pack

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `make(item)` in order, and compute the next one in a thread while the caller uses the last.

    An error of `make` is raised in place of its result.
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
    """Whole documents, or parts of long ones, end to end.

    A process counts all rows of a global batch, and reads the tokens of its own alone.
    """

    @property
    def source(self) -> str: ...

    @property
    def tokens(self) -> np.ndarray: ...

    @property
    def piece_lengths(self) -> np.ndarray: ...

    @property
    def weights(self) -> np.ndarray | None: ...

    @property
    def plain(self) -> np.ndarray | None:
        """Pieces of the domain's own documents, bool (pieces,); None if there are none or nobody asks."""

    @property
    def length(self) -> int:
        """Number of tokens. It is known before they are read, as the two below are."""

    @property
    def target_weight(self) -> float:
        """Sum of the weights of all tokens that are predicted: all but the first of each document."""

    @property
    def without_loss(self) -> int | None:
        """Number of tokens of weight 0 in the loss; None if there are no weights."""


@dataclass(frozen=True)
class NoisySequence:
    """A sequence of which the model reads other tokens than those that it has to predict.

    Attributes:
        row: the sequence with its true tokens.
        read: function that returns the tokens that the model reads, int64 (tokens,). It is called when the
            row is packed, because a process packs only its own rows.
    """

    row: PackedSequence
    read: Callable[[], np.ndarray]

    @property
    def source(self) -> str:
        return self.row.source

    @property
    def tokens(self) -> np.ndarray:
        return self.row.tokens

    @property
    def piece_lengths(self) -> np.ndarray:
        return self.row.piece_lengths

    @property
    def weights(self) -> np.ndarray | None:
        return self.row.weights

    @property
    def plain(self) -> np.ndarray | None:
        return self.row.plain

    @property
    def length(self) -> int:
        return self.row.length

    @property
    def target_weight(self) -> float:
        return self.row.target_weight

    @property
    def without_loss(self) -> int | None:
        return self.row.without_loss


class Stream(Protocol):
    """Global batches as a pure function of the step: nothing is consumed, so nothing is restored."""

    def batch(self, step: int) -> Sequence[PackedSequence]:
        """Return the sequences of global batch `step`, in order."""

    def ledger(self, steps: int) -> Mapping[str, Mapping[str, float]]:
        """Return the sequences, tokens and epochs of the first `steps` batches, by source."""


class PhasedStream(Stream, Protocol):
    """A stream whose share of replay rows may change during the run."""

    @property
    def batch_sequences(self) -> int: ...

    def rows(self, step: int) -> Mapping[str, int]:
        """Return the number of rows of each source in global batch `step`."""

    def with_phases(self, phases: Sequence[tuple[int, int]]) -> PhasedStream:
        """Return the same stream with replay rows by phases of (first step, rows)."""


class MixedStream(PhasedStream, Protocol):
    """A stream whose domain rows are divided among sources by weights that may change during the run."""

    @property
    def weights(self) -> Mapping[str, int]:
        """Weights of the sources before any update."""

    def consumed(self, steps: int) -> Mapping[str, int]:
        """Return the sequences of each source in the first `steps` batches, earlier runs included."""

    def with_updates(self, updates: Sequence[tuple[int, Mapping[str, int]]]) -> MixedStream:
        """Return the same stream with weights by phases of (first step, weights)."""


class StreamChanges(Protocol):
    """The changes of a stream that a run has made."""

    @property
    def phases(self) -> Sequence[Sequence[int]]:
        """Pairs of first step and replay rows that gates have set."""

    @property
    def mixture(self) -> Sequence[Mapping[str, Any]]:
        """Updates of the weights, with "step" and "weights"."""


def followed(stream: Stream, changes: StreamChanges) -> Stream:
    """Return the stream that a run follows: the recipe's with the changes of replay and of weights."""
    if changes.mixture:
        updates = [(each["step"], each["weights"]) for each in changes.mixture]
        stream = cast("MixedStream", stream).with_updates(updates)
    if changes.phases:
        phases = [(first, rows) for first, rows in changes.phases]
        stream = cast("PhasedStream", stream).with_phases(phases)
    return stream


class FollowedStream:
    """The stream that a run follows, laid out anew only where there was a change since."""

    def __init__(self, stream: Stream, changes: StreamChanges) -> None:
        self._stream, self._changes = stream, changes
        self._laid_out: tuple[Any, Any, Stream] | None = None

    @property
    def now(self) -> Stream:
        """Stream with all changes so far. A change replaces a list of changes, and never extends it."""
        phases, mixture = self._changes.phases, self._changes.mixture
        known = self._laid_out
        if known is None or known[0] is not phases or known[1] is not mixture:
            known = self._laid_out = phases, mixture, followed(self._stream, self._changes)
        return known[2]


def pieces(sequence: PackedSequence) -> list[np.ndarray]:
    """Return the documents (or parts of documents) of a sequence."""
    return np.split(np.asarray(sequence.tokens), np.cumsum(sequence.piece_lengths)[:-1])


_MULTIPLE = 256
"""Divisor of the tokens of a row on a GPU: at most 255 more, 1.6% of 16,384 (of one short row, half).

Blocks of any size would leave holes in the GPU's memory, and 8-bit products take multiples of 16: they would
copy rows.
"""


def row_multiple(*, on_gpu: bool) -> int:
    """Return the divisor of the number of tokens of every packed row."""
    return _MULTIPLE if on_gpu else 1


def pack_sequences(sequences: Sequence[PackedSequence], multiple: int = 1) -> PackedBatch:
    """Return one packed row of the documents of several sequences.

    Args:
        sequences: Sequences, at least one.
        multiple: Divisor of the row's tokens. The row is filled up with copies of its longest document, cut
            where it is full, without labels. Documents do not see each other, so nothing is learned from
            copies; and the factors of 8-bit products, a layer's largest numbers, stay those of the text (of
            the text before its noise, where the model reads noisy text).
    """
    documents = [piece for sequence in sequences for piece in pieces(sequence)]
    missing, longest = -sum(map(len, documents)) % multiple, max(documents, key=len)
    copies = [longest[: missing - start] for start in range(0, missing, len(longest))]
    weights = None
    if any(sequence.weights is not None for sequence in sequences):
        weights = np.concatenate([*map(token_weights, sequences), np.zeros(missing)])
    packed = pack([*documents, *copies], weights, missing)
    if not any(isinstance(sequence, NoisySequence) for sequence in sequences):
        return packed
    read = [each.read() if isinstance(each, NoisySequence) else each.tokens for each in sequences] + copies
    ids = torch.from_numpy(np.concatenate(read).astype(np.int64))  # [T]
    return replace(packed, input_ids=ids[None])


def token_weights(sequence: PackedSequence) -> np.ndarray:
    """Return the weights of a sequence's tokens in the loss: (tokens,)."""
    return np.ones(len(sequence.tokens), np.float16) if sequence.weights is None else sequence.weights


def micro_batches(parts: Sequence[Sequence[PackedSequence]], device: torch.device) -> Iterator[PackedBatch]:
    """Yield the sequences of each part as one packed row, on the device.

    For a GPU the next row is packed, in page-locked memory, while the model works on the last. On a processor
    that would gain nothing: packing takes a thousandth of the model's time.
    """
    on_gpu = device.type == "cuda"
    multiple = row_multiple(on_gpu=on_gpu)
    if not on_gpu:
        yield from (pack_sequences(part, multiple).to(device) for part in parts)
        return
    for packed in one_ahead(lambda part: pack_sequences(part, multiple).pin_memory(), parts):
        yield packed.to(device)


def target_weight(sequences: Sequence[PackedSequence]) -> float:
    """Return the sum of the weights of all tokens that are predicted: all but the first of each document."""
    return sum(sequence.target_weight for sequence in sequences)
