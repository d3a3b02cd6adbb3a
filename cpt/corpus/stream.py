"""Order the training data without state: the sequence at position k follows from (seed, phases, k) alone.

Nothing is consumed, so nothing has to be restored. A run that resumes at step n, any number of times and on
any number of processes, sees the same sequences, and the token ledger can be computed without training.
"""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import numpy as np

from cpt.corpus.shards import PackedSequence, TokenisedSource
from cpt.errors import DataError, UsageError
from cpt.sources import DOMAIN, REPLAY

_ROUNDS = 6


class Permutation:
    """A pseudorandom bijection of 0 .. size - 1, computed from a key: the same on every machine and version.

    A balanced Feistel network over the next even power of two, walked along its cycle until it is inside
    (Black and Rogaway 2002): constant memory, and any element without the others.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        self.size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        seed = hashlib.blake2b(repr(key).encode(), digest_size=8 * _ROUNDS).digest()
        self._round_keys = np.frombuffer(seed, dtype="<u8")

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the elements at positions.

        Args:
            positions: int (n,), each in 0 .. size - 1.

        Returns:
            int64 (n,).
        """
        values = self._encipher(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._encipher(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _encipher(self, values: np.ndarray) -> np.ndarray:
        bits, mask = np.uint64(self._half_bits), np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << bits) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def replay_rows(share: float, batch_sequences: int) -> int:
    """Return the replay rows of each global batch: exactly round(share * batch_sequences).

    Raises:
        UsageError: A positive share rounds to no row, or to all rows.
    """
    rows = round(share * batch_sequences)
    if share > 0 and rows == 0:
        message = f"a replay share of {share:g} of {batch_sequences} sequences rounds to none"
        hint = f"Use at least {1 / batch_sequences:g}"
        hint += (
            f", or larger batches: batch_sequences: {_batch_for(share)}." if share > _SMALLEST_SHARE else "."
        )
        raise UsageError(message, hint=hint)
    if not 0 <= rows < batch_sequences:
        message = f"a replay share of {share:g} of {batch_sequences} sequences leaves none for the domain"
        raise UsageError(message, hint="Use a share from 0 to less than 1.")
    return rows


_SMALLEST_SHARE = 1e-6
"""Smallest share for which the hint proposes a larger batch."""


def _batch_for(share: float) -> int:
    """Return the smallest batch in which a share is about one row."""
    return max(2, round(1 / share))


Phases = Sequence[tuple[int, int]]
"""Pairs (first step, replay rows of each global batch from there on), ordered, the first at step 0."""


class TrainingStream:
    """Global batches of packed sequences: domain rows with an exact share of replay rows.

    The share may change in phases. A batch does not depend on later phases, and a new phase continues each
    source at its next unseen row. Rows are permuted within each batch, so that micro-batches mix. Every epoch
    reads a source in a new permutation.
    """

    def __init__(
        self,
        sources: Mapping[str, TokenisedSource],
        replay_share: float,
        batch_sequences: int,
        seed: int,
        offset: Mapping[str, int] | None = None,
    ) -> None:
        """Lay out the stream.

        Args:
            sources: Source "domain", and "replay" if there are ever replay rows.
            replay_share: Share x, 0 <= x < 1; each global batch holds exactly round(x * B) replay rows.
            batch_sequences: Number B of rows in a global batch (all processes and micro-batches together).
            offset: Number of sequences of each source that an earlier run consumed; this one continues there.

        Raises:
            UsageError: The share rounds to no row or to all rows.
            DataError: There are replay rows, but no replay source.
        """
        self.batch_sequences = batch_sequences
        self._sources, self._seed, self._offset = dict(sources), seed, dict(offset or {})
        self._set_phases([(0, replay_rows(replay_share, batch_sequences))])

    def with_phases(self, phases: Phases) -> Self:
        """Return the same stream with other numbers of replay rows.

        Raises:
            DataError: There are replay rows, but no replay source.
            ValueError: The phases do not begin at step 0, are not in order, or leave no domain rows.
        """
        other = copy.copy(self)
        other._set_phases(phases)
        return other

    def _set_phases(self, phases: Phases) -> None:
        in_order = all(a < b for (a, _), (b, _) in pairwise(phases))
        fit = all(0 <= rows < self.batch_sequences for _, rows in phases)
        if not phases or phases[0][0] != 0 or not in_order or not fit:
            raise ValueError(f"{list(phases)} are no phases of batches of {self.batch_sequences} rows")
        most = max(rows for _, rows in phases)
        if most and REPLAY not in self._sources:
            raise DataError(
                f"a replay share of {most / self.batch_sequences:g} is wanted, but the corpus has no "
                "replay text",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
            )
        self._phases = tuple((first, rows) for first, rows in phases)
        self._used = (DOMAIN, REPLAY) if most else (DOMAIN,)

    def rows(self, step: int) -> dict[str, int]:
        """Return the number of rows of each source in global batch `step`."""
        replay = next(rows for first, rows in reversed(self._phases) if first <= step)
        return {DOMAIN: self.batch_sequences - replay} | ({REPLAY: replay} if replay else {})

    def _rows_until(self, source: str, steps: int) -> int:
        """Return the number of sequences of a source in the first `steps` global batches."""
        ends = [*(first for first, _ in self._phases[1:]), steps]
        lengths = (
            max(0, min(end, steps) - first) for (first, _), end in zip(self._phases, ends, strict=True)
        )
        replay = sum(length * rows for length, (_, rows) in zip(lengths, self._phases, strict=True))
        return replay if source == REPLAY else steps * self.batch_sequences - replay

    def batch(self, step: int) -> list[PackedSequence]:
        """Return the rows of global batch `step` (from 0), in order. Processes take slices of it."""
        return [self._sources[source].sequence(number) for source, number in self.places(step)]

    def row(self, position: int) -> PackedSequence:
        """Return the sequence at a position of the stream: row position % B of batch position // B."""
        step, row = divmod(position, self.batch_sequences)
        source, number = self.places(step)[row]
        return self._sources[source].sequence(number)

    def places(self, step: int) -> list[tuple[str, int]]:
        """Return (source, number of the sequence) of each row of global batch `step`."""
        rows: list[tuple[str, int]] = []
        for source, count in self.rows(step).items():
            numbers = self._numbers(source, self._consumed(source, step), count)
            rows.extend((source, int(number)) for number in numbers)
        order = Permutation(self.batch_sequences, self._seed, "rows", step)
        return [rows[at] for at in order(np.arange(self.batch_sequences))]

    def _numbers(self, source: str, first: int, count: int) -> np.ndarray:
        """Return the sequence numbers at positions first .. first + count - 1 of a source's reading order."""
        size = len(self._sources[source])
        positions = np.arange(first, first + count)
        numbers = np.empty(count, dtype=np.int64)
        for epoch in range(first // size, (first + count - 1) // size + 1):
            inside = positions // size == epoch
            numbers[inside] = self._epoch(source, epoch)(positions[inside] % size)
        return numbers

    def _epoch(self, source: str, epoch: int) -> Permutation:
        return Permutation(len(self._sources[source]), self._seed, source, epoch)

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        """Count the first `steps` global batches by source: "sequences", "tokens", "epochs"."""
        result: dict[str, dict[str, float]] = {}
        for name in self._used:
            offset, sequences = self._offset.get(name, 0), self._rows_until(name, steps)
            tokens = self._tokens(name, offset + sequences) - self._tokens(name, offset)
            epochs = sequences / len(self._sources[name])
            result[name] = {"sequences": sequences, "tokens": tokens, "epochs": epochs}
        return result

    def parts(self, steps: int, dropped: Sequence[int] = ()) -> dict[str, dict[str, dict[str, float]]]:
        """Count the first `steps` global batches by named part, of each source that has parts.

        Args:
            dropped: Global batches among them that are not counted.

        Returns:
            By source and part: "sequences", "tokens", "epochs".
        """
        offset, result = self.consumed(0), {}
        skipped = [place for step in dropped for place in self.places(step)]
        for name, consumed in self.consumed(steps).items():
            source = self._sources[name]
            if len(source.parts) < 2:
                continue
            before, after = self._part_counts(name, offset[name]), self._part_counts(name, consumed)
            lost = source.count_parts(np.array([number for of, number in skipped if of == name], int))
            counts = {part: after[part] - before[part] - lost[part] for part in source.parts}
            result[name] = {
                part: {"sequences": int(sequences), "tokens": int(tokens), "epochs": float(sequences) / size}
                for (part, size), (sequences, tokens) in zip(
                    source.parts.items(), counts.values(), strict=True
                )
            }
        return result

    def _part_counts(self, name: str, sequences: int) -> dict[str, np.ndarray]:
        """Return sequences and tokens, int64 (2,), of each part in the first sequences of a source."""
        source = self._sources[name]
        epochs, rest = divmod(sequences, len(source))
        whole = source.count_parts(np.arange(len(source)))
        rest_counts = source.count_parts(self._epoch(name, epochs)(np.arange(rest)))
        return {part: epochs * np.array(whole[part]) + rest_counts[part] for part in whole}

    def consumed(self, steps: int) -> dict[str, int]:
        """Return the sequences of each source consumed by `steps` global batches, earlier runs included."""
        return {name: self._consumed(name, steps) for name in self._used}

    def _consumed(self, source: str, steps: int) -> int:
        return self._offset.get(source, 0) + self._rows_until(source, steps)

    def _tokens(self, name: str, sequences: int) -> int:
        """Return the number of tokens of the first sequences of a source, in reading order."""
        source = self._sources[name]
        epochs, rest = divmod(sequences, len(source))
        rest_numbers = self._epoch(name, epochs)(np.arange(rest))
        return epochs * source.total_tokens + int(source.sequence_lengths[rest_numbers].sum())

    def available_steps(self, max_epochs: float) -> int:
        """Return the number of global batches until the domain text has been read `max_epochs` times.

        Replay text may be read more often: it only preserves old knowledge. The ledger reports how often.
        """
        most = int(max_epochs * len(self._sources[DOMAIN]))
        at_most = max(0, most - self._offset.get(DOMAIN, 0))  # every batch has a domain row
        return bisect_right(range(1, at_most + 1), most, key=lambda steps: self._consumed(DOMAIN, steps))

    def epochs(self, steps: int) -> float:
        """Return the epochs of the domain text after `steps` global batches, earlier runs included."""
        return self.consumed(steps)[DOMAIN] / len(self._sources[DOMAIN])

    def available_tokens(self, max_epochs: float) -> int:
        """Return the number of tokens, replay included, of the batches that `available_steps` allows."""
        return sum(int(counts["tokens"]) for counts in self.ledger(self.available_steps(max_epochs)).values())
