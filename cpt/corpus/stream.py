"""Order the training data without state: the sequence at position k follows from (seed, phases, k) alone.

Nothing is consumed, so nothing has to be restored. A run that resumes at step n, any number of times and on
any number of processes, sees the same sequences, and the token ledger can be computed without training.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from cpt.corpus.batch_rows import Phases, place
from cpt.corpus.mixture import MixturePhase, replay_rows
from cpt.corpus.permutation import Permutation
from cpt.corpus.shards import PackedSequence, TokenisedSource
from cpt.errors import DataError
from cpt.sources import DOMAIN, REPLAY, WITHOUT_LOSS


class TrainingStream:
    """Global batches of packed sequences: domain rows with an exact share of replay rows.

    Domain rows may be divided among named parts by weight. Mixtures may change in phases, and gates may
    change the replay share on the way. A batch does not depend on later phases, and a new phase continues
    each source at its next unseen row. Rows are permuted within each batch, so that micro-batches mix. Every
    epoch reads a source in a new permutation.

    Attributes:
        domain_sources: Sources that domain rows are divided among.
        phase_ends: Step at which each phase of the mixture is to end, also beyond the end of the run.
    """

    def __init__(
        self,
        sources: Mapping[str, TokenisedSource],
        replay_share: float,
        batch_sequences: int,
        seed: int,
        offset: Mapping[str, int] | None = None,
        mixture: Sequence[MixturePhase] = (),
    ) -> None:
        """Lay out the stream.

        Args:
            sources: Source "domain" or those of the mixture, and "replay" if there are ever replay rows.
            replay_share: Share x, 0 <= x < 1; each global batch holds exactly round(x * B) replay rows.
            batch_sequences: Number B of rows in a global batch (all processes and micro-batches together).
            offset: Number of sequences of each source that an earlier run consumed; this one continues there.
            mixture: Phases, in place of the replay share; more than one need `for_steps`.

        Raises:
            UsageError: The share rounds to no row or to all rows.
            DataError: There are replay rows, but no replay source.
        """
        self.batch_sequences = batch_sequences
        self._sources, self._seed, self._offset = dict(sources), seed, dict(offset or {})
        whole_run = MixturePhase(1.0, {DOMAIN: 1}, replay_rows(replay_share, batch_sequences))
        self._mixture = tuple(mixture) or (whole_run,)
        self.domain_sources = tuple(self._mixture[0].weights)
        self._changes: Phases = ()
        self._lay_out(0)

    def for_steps(self, steps: int) -> Self:
        """Return the same stream with the phases of its mixture in a run of so many steps."""
        other = copy.copy(self)
        other._lay_out(steps)
        return other

    def with_replay(self, change: Callable[[int], int]) -> Self:
        """Return the same stream with other replay rows in the phases of its mixture.

        Args:
            change: Function from a phase's replay rows to those that it has instead.
        """
        other = copy.copy(self)
        other._mixture = tuple(
            replace(phase, replay_rows=change(phase.replay_rows)) for phase in self._mixture
        )
        other._lay_out(self._steps)
        return other

    def with_phases(self, phases: Phases) -> Self:
        """Return the same stream with numbers of replay rows that gates have set (see `BatchRows`).

        Raises:
            DataError: There are replay rows, but no replay source.
            ValueError: The phases do not begin at step 0, are not in order, or leave no domain rows.
        """
        in_order = all(a < b for (a, _), (b, _) in pairwise(phases))
        fit = all(0 <= rows < self.batch_sequences for _, rows in phases)
        if not phases or phases[0][0] != 0 or not in_order or not fit:
            raise ValueError(f"{list(phases)} are no phases of batches of {self.batch_sequences} rows")
        other = copy.copy(self)
        other._changes = tuple((first, rows) for first, rows in phases)
        other._lay_out(self._steps)
        return other

    def _lay_out(self, steps: int) -> None:
        self._steps = steps
        unread = {name: self.size(name) - self._offset.get(name, 0) for name in self.domain_sources}
        self._rows, self.phase_ends = place(self._mixture, steps, self._changes, self.batch_sequences, unread)
        most = self._rows.most_replay
        if most and REPLAY not in self._sources:
            raise DataError(
                f"a replay share of {most / self.batch_sequences:g} is wanted, but the corpus has no "
                "replay text",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
            )
        self._used = (*self.domain_sources, REPLAY) if most else self.domain_sources

    @property
    def is_mixed(self) -> bool:
        """True if domain rows are divided among parts, or the mixture has phases."""
        return len(self.domain_sources) > 1 or len(self._rows.phases) > 1

    def size(self, source: str) -> int:
        """Return the number of sequences of a source."""
        return len(self._sources[source])

    def rows(self, step: int) -> dict[str, int]:
        """Return the number of rows of each source in global batch `step`, of those that have any."""
        return self._rows.of(step)

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
        """Count the first `steps` global batches by source: "sequences", "tokens", "epochs".

        A source with loss weights also has "tokens_without_loss".
        """
        result: dict[str, dict[str, float]] = {}
        for name in self._used:
            source, offset = self._sources[name], self._offset.get(name, 0)
            sequences = self._rows.until(name, steps)
            result[name] = {
                "sequences": sequences,
                "tokens": self._sum(name, source.sequence_lengths, offset, offset + sequences),
                "epochs": sequences / len(source),
            }
            if source.has_weights:
                result[name][WITHOUT_LOSS] = self._sum(name, source.without_loss, offset, offset + sequences)
        return result

    def tokens(self, steps: int) -> int:
        """Return the number of tokens, replay included, in the first `steps` global batches."""
        return sum(int(counts["tokens"]) for counts in self.ledger(steps).values())

    def tokens_by_group(
        self, source: str, groups: Mapping[str, np.ndarray], steps: int, dropped: Sequence[int] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Count the tokens of groups of a source's documents, such as those of one listed source.

        Args:
            groups: For each file of documents the group of each, by its row: int (documents,).
            dropped: Global batches among the first `steps` that are not counted.

        Returns:
            Tokens in the first `steps` global batches and in one epoch: int64 (groups,) each.
        """
        size = len(self._sources[source])
        times = np.zeros(size, dtype=np.int64)
        first, end = self._offset.get(source, 0), self._consumed(source, steps)
        for epoch in range(first // size, -(-end // size)):
            read = np.arange(max(first, epoch * size), min(end, (epoch + 1) * size))
            times[self._epoch(source, epoch)(read % size)] += 1
        for step in dropped:
            np.subtract.at(times, [number for name, number in self.places(step) if name == source], 1)
        opened = self._sources[source]
        return opened.tokens_by_group(groups, times), opened.tokens_by_group(groups, np.ones_like(times))

    def by_phase(self, steps: int, dropped: Sequence[int] = ()) -> list[dict[str, Any]]:
        """Count the first `steps` global batches by phase of the mixture and source.

        Args:
            dropped: Global batches among them that are not counted.

        Returns:
            For each phase that was begun: "first" (step), "steps", "until" (as planned), and "sources" with
            "sequences", "tokens", "epochs" of each.
        """
        result = []
        ends = [*(phase.first for phase in self._rows.phases[1:]), steps]
        for phase, end in zip(self._rows.phases, ends, strict=True):
            first, end = phase.first, min(end, steps)
            if first >= end:
                break
            skipped = [place for step in dropped if first <= step < end for place in self.places(step)]
            counts = {}
            for name in self._used:
                source, before, after = (
                    self._sources[name],
                    self._consumed(name, first),
                    self._consumed(name, end),
                )
                lost = [number for of, number in skipped if of == name]
                sequences = after - before - len(lost)
                tokens = self._sum(name, source.sequence_lengths, before, after)
                tokens -= int(source.sequence_lengths[lost].sum())
                epochs = sequences / len(source)
                counts[name] = {"sequences": sequences, "tokens": tokens, "epochs": epochs}
            result.append(
                {"first": first, "steps": end - first, "until": phase.mixture.until, "sources": counts}
            )
        return result

    def parts(self, steps: int, dropped: Sequence[int] = ()) -> dict[str, dict[str, dict[str, float]]]:
        """Count the first `steps` global batches by named part, of each source that has parts.

        Args:
            dropped: Global batches among them that are not counted.

        Returns:
            By source and part: "sequences", "tokens", "epochs", of a source with loss weights also
            "tokens_without_loss".
        """
        result = {}
        skipped = [place for step in dropped for place in self.places(step)]
        for name in self._used:
            source = self._sources[name]
            if len(source.parts) < 2:
                continue
            before, after = (self._part_counts(name, self._consumed(name, at)) for at in (0, steps))
            lost = source.count_parts(np.array([number for of, number in skipped if of == name], int))
            counts = {part: after[part] - before[part] - lost[part] for part in source.parts}
            result[name] = {
                part: {"sequences": int(sequences), "tokens": int(tokens), "epochs": float(sequences) / size}
                | ({WITHOUT_LOSS: int(without)} if source.has_weights else {})
                for (part, size), (sequences, tokens, without) in zip(
                    source.parts.items(), counts.values(), strict=True
                )
            }
        return result

    def _part_counts(self, name: str, sequences: int) -> dict[str, np.ndarray]:
        """Return sequences, tokens and tokens of weight 0 of each part in the first sequences: int64 (3,)."""
        source = self._sources[name]
        epochs, rest = divmod(sequences, len(source))
        whole = source.count_parts(np.arange(len(source)))
        rest_counts = source.count_parts(self._epoch(name, epochs)(np.arange(rest)))
        return {part: epochs * np.array(whole[part]) + rest_counts[part] for part in whole}

    def consumed(self, steps: int) -> dict[str, int]:
        """Return the sequences of each source consumed by `steps` global batches, earlier runs included.

        Sources that only earlier runs have read are among them, so that a later one goes on there.
        """
        return {**self._offset, **{name: self._consumed(name, steps) for name in self._used}}

    def _consumed(self, source: str, steps: int) -> int:
        return self._offset.get(source, 0) + self._rows.until(source, steps)

    def _sum(self, name: str, counts: np.ndarray, first: int, end: int) -> int:
        """Add up a count of each sequence, int64 (sequences,), over a source's positions first .. end - 1."""

        def until(sequences: int) -> int:
            epochs, rest = divmod(sequences, len(counts))
            rest_numbers = self._epoch(name, epochs)(np.arange(rest))
            return epochs * int(counts.sum()) + int(counts[rest_numbers].sum())

        return until(end) - until(first)

    def available_steps(self, max_epochs: float | Mapping[str, float]) -> int:
        """Return the number of global batches until a domain source has been read `max_epochs` times.

        Replay text may be read more often: it only preserves old knowledge. The ledger reports how often.

        Args:
            max_epochs: Bound of all domain sources, or of each by its name.
        """
        most = {}
        for name in self.domain_sources:
            epochs = max_epochs if isinstance(max_epochs, int | float) else max_epochs[name]
            most[name] = int(epochs * len(self._sources[name]))

        def exceeds(steps: int) -> bool:
            run = self if len(self._mixture) == 1 else self.for_steps(steps)
            read = (name for name in most if run._rows.until(name, steps))
            return any(run._consumed(name, steps) > most[name] for name in read)

        # every batch has a domain row
        bound = sum(max(0, most[name] - self._offset.get(name, 0)) for name in most)
        steps = bisect_left(range(1, bound + 1), True, key=exceeds)
        while steps and exceeds(steps):  # the ends of phases are rounded, so more steps may read a row less
            steps -= 1
        return steps

    def epochs(self, steps: int, source: str = DOMAIN) -> float:
        """Return the epochs of a domain source after `steps` global batches, earlier runs included."""
        return self._consumed(source, steps) / len(self._sources[source])

    def available_tokens(self, max_epochs: float | Mapping[str, float]) -> int:
        """Return the number of tokens, replay included, of the batches that `available_steps` allows."""
        steps = self.available_steps(max_epochs)
        return self.for_steps(steps).tokens(steps)
