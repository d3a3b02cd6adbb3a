"""Count the rows of every source in every batch, from the phases of a mixture and what gates have set."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cpt.corpus.mixture import ONCE, Interleaving, MixturePhase
from cpt.sources import REPLAY

Phases = Sequence[tuple[int, int]]
"""Pairs (first step, replay rows of each global batch from there on), ordered, the first at step 0."""

Updates = Sequence[tuple[int, Mapping[str, int]]]
"""Pairs (first step, whole weights of the domain's sources from there on), ordered."""


@dataclass(frozen=True)
class PlacedPhase:
    """A phase of a mixture with its first step."""

    first: int
    mixture: MixturePhase

    @cached_property
    def interleaving(self) -> Interleaving:
        """Order of its domain rows."""
        return Interleaving(tuple(self.mixture.weights.values()))


class BatchRows:
    """Numbers of rows of each source in the batches of placed phases; the last phase has no end.

    Attributes:
        phases: Phases with at least one step each, the first at step 0.
    """

    def __init__(self, phases: Sequence[PlacedPhase], changes: Phases, batch_sequences: int) -> None:
        """Lay out the replay rows.

        Args:
            changes: Replay rows that gates have set. A number above that of the mixture at its first step is
                a floor for the mixture's later phases, one below it a ceiling. An equal one gives the share
                back to the mixture.
        """
        self.phases = tuple(phases)
        self._changes, self._batch_sequences = changes, batch_sequences
        self._domain_sources = tuple(phases[0].mixture.weights)
        firsts = sorted({phase.first for phase in phases} | {first for first, _ in changes})
        self._replay = tuple((first, self._replay_from(first)) for first in firsts)

    def _replay_from(self, step: int) -> int:
        planned = self._phase(step).mixture.replay_rows
        changes = [change for change in self._changes if change[0] <= step]
        if not changes:
            return planned
        changed_at, rows = changes[-1]
        before = self._phase(changed_at).mixture.replay_rows
        if rows == before:
            return planned
        return max(rows, planned) if rows > before else min(rows, planned)

    def _phase(self, step: int) -> PlacedPhase:
        return next(phase for phase in reversed(self.phases) if phase.first <= step)

    @property
    def most_replay(self) -> int:
        """Most replay rows of a batch."""
        return max(rows for _, rows in self._replay)

    def of(self, step: int) -> dict[str, int]:
        """Return the number of rows of each source in global batch `step`, of those that have any."""
        phase, first = self._phase(step), self._domain_until(step)
        before = self._domain_until(phase.first)
        after = self._domain_until(step + 1)
        counts = phase.interleaving.counts(after - before) - phase.interleaving.counts(first - before)
        found = dict(zip(self._domain_sources, counts.tolist(), strict=True))
        found[REPLAY] = self._batch_sequences - (after - first)
        return {source: count for source, count in found.items() if count}

    def until(self, source: str, steps: int) -> int:
        """Return the number of rows of a source in the first `steps` global batches."""
        if source == REPLAY:
            return self._replay_until(steps)
        part, rows = self._domain_sources.index(source), 0
        ends = [*(phase.first for phase in self.phases[1:]), steps]
        for phase, end in zip(self.phases, ends, strict=True):
            if phase.first < steps:
                own = self._domain_until(min(end, steps)) - self._domain_until(phase.first)
                rows += int(phase.interleaving.counts(own)[part])
        return rows

    def _replay_until(self, steps: int) -> int:
        ends = [*(first for first, _ in self._replay[1:]), steps]
        lengths = (
            max(0, min(end, steps) - first) for (first, _), end in zip(self._replay, ends, strict=True)
        )
        return sum(length * rows for length, (_, rows) in zip(lengths, self._replay, strict=True))

    def _domain_until(self, steps: int) -> int:
        return steps * self._batch_sequences - self._replay_until(steps)

    def read_once(self, unread: Mapping[str, int]) -> int:
        """Return the step at which every sequence of the last phase's parts has been trained on.

        Where a gate raises replay, that step comes later; no batch before it depends on the change.

        Args:
            unread: Sequences of each source that no earlier run has trained on.
        """
        last, weights = self.phases[-1].first, self.phases[-1].mixture.weights
        parts = [name for name, weight in weights.items() if weight]
        missing = [unread[name] - self.until(name, last) for name in parts]
        # Every batch has a domain row, and each part is less than one row behind its share of them.
        shares = np.array([weights[name] for name in parts]) / sum(weights.values())
        most = np.ceil((np.array(missing) + 1) / shares).max()
        return last + bisect_left(
            range(last, last + max(0, int(most)) + 1),
            True,
            key=lambda step: all(self.until(name, step) >= unread[name] for name in parts),
        )


def place(
    mixture: Sequence[MixturePhase],
    steps: int,
    changes: Phases,
    batch_sequences: int,
    unread: Mapping[str, int],
    updates: Updates = (),
) -> tuple[BatchRows, tuple[int, ...]]:
    """Place the phases of a mixture in a run of so many steps.

    Args:
        changes: Replay rows that gates have set.
        unread: Sequences of each source that no earlier run has trained on.
        updates: Weights that took the place of the mixture's during the run; each begins a phase.

    Returns:
        The rows of phases that have a step, or else of the first one, and the step at which every phase is to
        end. A phase that is to end where the one before it does, or earlier, has no step.
    """
    placed: list[PlacedPhase] = []
    ends: list[int] = []
    first = 0
    for phase in mixture:
        reached = PlacedPhase(first, phase)
        if phase.until == ONCE:
            ends.append(BatchRows([*placed, reached], changes, batch_sequences).read_once(unread))
        else:
            ends.append(round(phase.until * steps))
        if first < (end := min(ends[-1], steps)):
            placed.append(reached)
            first = end
    placed = _updated(placed or [PlacedPhase(0, mixture[0])], updates)
    return BatchRows(placed, changes, batch_sequences), tuple(ends)


def _updated(placed: Sequence[PlacedPhase], updates: Updates) -> list[PlacedPhase]:
    """Return the phases with another one at each update, which has the last update's weights."""
    found: list[PlacedPhase] = []
    for first in sorted({phase.first for phase in placed} | {first for first, _ in updates}):
        own = next(phase for phase in reversed(placed) if phase.first <= first)
        weights = next((each for begin, each in reversed(updates) if begin <= first), None)
        mixture = own.mixture if weights is None else replace(own.mixture, weights=weights)
        found.append(PlacedPhase(first, mixture))
    return found
