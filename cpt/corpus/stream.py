"""Order the training data without state: the sequence at position k follows from (seed, phases, k) alone.

Nothing is consumed, so nothing has to be restored. A run that resumes at step n, any number of times and on
any number of processes, sees the same sequences, and the token ledger can be computed without training.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from cpt.corpus.batch_rows import Phases, Updates, place
from cpt.corpus.mixture import MixturePhase, replay_rows
from cpt.corpus.permutation import Permutation
from cpt.corpus.reading_order import ReadingOrder
from cpt.corpus.shards import DocumentFact
from cpt.corpus.tokenised_source import PackedSequence, StoredSequence, TokenisedSource
from cpt.errors import DataError
from cpt.sources import DOMAIN, REPLAY, WITHOUT_LOSS


class TrainingStream:
    """Global batches of packed sequences: domain rows with an exact share of replay rows.

    Domain rows may be divided among named parts by weight. Mixtures may change in phases; on the way, gates
    may change the replay share, and online mixing the weights. A batch does not depend on later phases, and a
    new phase continues each source at its next unseen row. Rows are permuted within each batch, so that
    micro-batches mix. Every epoch reads a source in a new permutation.

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
        self._orders = {name: ReadingOrder.of(source, seed, name) for name, source in sources.items()}
        whole_run = MixturePhase(1.0, {DOMAIN: 1}, replay_rows(replay_share, batch_sequences))
        self._mixture = tuple(mixture) or (whole_run,)
        self.domain_sources = tuple(self._mixture[0].weights)
        self._changes: Phases = ()
        self._updates: Updates = ()
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

    def with_updates(self, updates: Updates) -> Self:
        """Return the same stream with weights of the domain's sources that were set during the run.

        Each update begins a phase: no batch before it changes, and sources go on at their next unseen rows.

        Raises:
            ValueError: The updates are not in order, or are of other sources.
        """
        in_order = all(a < b for (a, _), (b, _) in pairwise(updates))
        fit = all(first >= 0 and set(weights) == set(self.domain_sources) for first, weights in updates)
        if not in_order or not fit:
            raise ValueError(f"{list(updates)} are no updates of {', '.join(self.domain_sources)}")
        other = copy.copy(self)
        other._updates = tuple(  # counts follow the order of the sources
            (first, {name: weights[name] for name in self.domain_sources}) for first, weights in updates
        )
        other._lay_out(self._steps)
        return other

    @property
    def weights(self) -> dict[str, int]:
        """Whole weights of the domain's sources at the begin of the mixture, before any update."""
        return dict(self._mixture[0].weights)

    def _lay_out(self, steps: int) -> None:
        self._steps = steps
        unread = {name: self.size(name) - self._offset.get(name, 0) for name in self.domain_sources}
        self._rows, self.phase_ends = place(
            self._mixture, steps, self._changes, self.batch_sequences, unread, self._updates
        )
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

    def batch(self, step: int) -> list[StoredSequence]:
        """Return the rows of global batch `step` (from 0), in order. Processes take slices of it.

        No shard is opened: a process reads only the rows that it asks for their tokens.
        """
        rows: list[StoredSequence] = []
        for source, numbers in self._numbers(step):
            rows += self._sources[source].rows(numbers)
        return [rows[at] for at in self._row_order(step)]

    def row(self, position: int) -> PackedSequence:
        """Return the sequence at a position of the stream: row position % B of batch position // B."""
        step, row = divmod(position, self.batch_sequences)
        source, number = self.places(step)[row]
        return self._sources[source].sequence(number)

    def places(self, step: int) -> list[tuple[str, int]]:
        """Return (source, number of the sequence) of each row of global batch `step`."""
        rows = [(source, number) for source, numbers in self._numbers(step) for number in numbers.tolist()]
        return [rows[at] for at in self._row_order(step)]

    def _numbers(self, step: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each source with the numbers of its sequences in a global batch, int64 (rows,)."""
        for source, count in self.rows(step).items():
            yield source, self._orders[source].numbers(self._consumed(source, step), count)

    def _row_order(self, step: int) -> list[int]:
        order = Permutation(self.batch_sequences, self._seed, "rows", step)
        return order(np.arange(self.batch_sequences)).tolist()

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        """Count the first `steps` global batches by source: "sequences", "tokens", "epochs".

        A source with loss weights also has "tokens_without_loss".
        """
        result: dict[str, dict[str, float]] = {}
        for name in self._used:
            source, offset = self._sources[name], self._offset.get(name, 0)
            sequences = self._rows.until(name, steps)
            counts = self._orders[name].count(offset, offset + sequences).sum(axis=0)
            result[name] = _entry(sequences, counts, len(source), source.has_weights)
        return result

    def tokens(self, steps: int) -> int:
        """Return the number of tokens, replay included, in the first `steps` global batches."""
        return sum(int(counts["tokens"]) for counts in self.ledger(steps).values())

    def tokens_by_group(
        self, source: str, group: DocumentFact, groups: int, steps: int, dropped: Sequence[int] = ()
    ) -> np.ndarray:
        """Count the tokens of groups of a source's documents, such as those of one listed source.

        Args:
            group: Function that returns the group of documents.
            groups: Number of groups.
            dropped: Global batches among the first `steps` that are not counted.

        Returns:
            int64 (2, groups): tokens in the first `steps` global batches, and in one epoch.
        """
        first, end = self._offset.get(source, 0), self._consumed(source, steps)
        skipped = self._dropped(source, dropped)

        def times(begin: int, stop: int) -> np.ndarray:
            read = self._orders[source].times(first, end, begin, stop)
            lost = skipped[(begin <= skipped) & (skipped < stop)] - begin
            return read - np.bincount(lost, minlength=stop - begin)

        return self._sources[source].tokens_by_group(group, groups, times)

    def _dropped(self, source: str, steps: Iterable[int]) -> np.ndarray:
        """Return the numbers of a source's sequences in global batches: int64 (rows,)."""
        numbers = [own for step in steps for name, own in self._numbers(step) if name == source]
        return np.concatenate([np.zeros(0, dtype=np.int64), *numbers])

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
            skipped = [step for step in dropped if first <= step < end]
            counts = {}
            for name in self._used:
                source, before, after = (
                    self._sources[name],
                    self._consumed(name, first),
                    self._consumed(name, end),
                )
                own = self._orders[name].count(before, after) - source.count(self._dropped(name, skipped))
                sequences, tokens, _ = own.sum(axis=0).tolist()
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
        for name in self._used:
            source = self._sources[name]
            if len(source.parts) < 2:
                continue
            counts = self._orders[name].count(self._consumed(name, 0), self._consumed(name, steps))
            counts -= source.count(self._dropped(name, dropped))
            result[name] = {
                part: _entry(int(own[0]), own, size, source.has_weights)
                for (part, size), own in zip(source.parts.items(), counts, strict=True)
            }
        return result

    def consumed(self, steps: int) -> dict[str, int]:
        """Return the sequences of each source consumed by `steps` global batches, earlier runs included.

        Sources that only earlier runs have read are among them, so that a later one goes on there.
        """
        return {**self._offset, **{name: self._consumed(name, steps) for name in self._used}}

    def _consumed(self, source: str, steps: int) -> int:
        return self._offset.get(source, 0) + self._rows.until(source, steps)

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
        run = self if len(self._mixture) == 1 else self.for_steps(steps)
        return run.tokens(steps)


def _entry(sequences: int, counts: np.ndarray, size: int, has_weights: bool) -> dict[str, float]:
    """Return an entry of a ledger.

    Args:
        counts: int64 (3,), sequences, tokens and tokens of weight 0.
        size: Sequences of an epoch.
    """
    entry = {"sequences": sequences, "tokens": int(counts[1]), "epochs": sequences / size}
    return entry | ({WITHOUT_LOSS: int(counts[2])} if has_weights else {})
