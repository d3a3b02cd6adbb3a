"""The order of training data, without state: what is at position k follows from (seed, shares, k) alone.

Nothing is consumed, so nothing has to be restored: a run that resumes at step n, any number of times, on
any number of processes, sees the same sequences, and the token ledger can be computed without training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cpt.corpus.permutation import Permutation
from cpt.corpus.shards import PackedSequence, TokenisedSource
from cpt.errors import DataError, Problem, RecipeError

DOMAIN, REPLAY = "domain", "replay"


def replay_rows(share: float, batch_sequences: int) -> int:
    """Replay rows of each global batch: round(share * batch_sequences), exactly.

    Raises:
        RecipeError: A positive share that rounds to no row, or to all rows.
    """
    rows = round(share * batch_sequences)
    if share > 0 and rows == 0:
        message = f"a replay share of {share:g} of {batch_sequences} sequences rounds to none"
        hint = (
            f"Use at least {1 / batch_sequences:g}, or larger batches: batch_sequences: {_batch_for(share)}."
        )
        raise RecipeError([Problem(message, key="replay", hint=hint)])
    if not 0 <= rows < batch_sequences:
        message = f"a replay share of {share:g} of {batch_sequences} sequences leaves none for the domain"
        raise RecipeError([Problem(message, key="replay", hint="Use a share from 0 to less than 1.")])
    return rows


def _batch_for(share: float) -> int:
    """The smallest batch in which a share is about a whole row."""
    return max(2, round(1 / share))


class TrainingStream:
    """Global batches of packed sequences: domain rows with an exact share of replay rows.

    Row placement inside a batch is permuted per step, so that micro-batches mix. Each source is gone
    through in a new permutation every epoch.
    """

    def __init__(
        self,
        sources: Mapping[str, TokenisedSource],
        replay_share: float,
        batch_sequences: int,
        seed: int,
        begin: Mapping[str, int] | None = None,
    ) -> None:
        """Lay out the stream.

        Args:
            sources: "domain", and "replay" if `replay_share` is positive.
            replay_share: x of 0 <= x < 1; each global batch holds exactly round(x * B) replay rows.
            batch_sequences: B, rows of one global batch (all processes and micro-batches together).
            begin: sequences of each source that an earlier run has gone through; this one goes on there.

        Raises:
            RecipeError: The share rounds to no row or to all rows.
            DataError: There is no replay source, though replay is wanted.
        """
        self.batch_sequences = batch_sequences
        replay = replay_rows(replay_share, batch_sequences)
        if replay and REPLAY not in sources:
            raise DataError(
                f"a replay share of {replay_share:g} is wanted, but the corpus has no replay text",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
            )
        self.rows = {DOMAIN: batch_sequences - replay} | ({REPLAY: replay} if replay else {})
        """Rows of each source in every global batch."""
        self._sources = {name: sources[name] for name in self.rows}
        self._seed = seed
        self._begin = {name: (begin or {}).get(name, 0) for name in self.rows}

    def batch(self, step: int) -> list[PackedSequence]:
        """The rows of global batch `step` (from 0), in order. Processes take slices of it."""
        return [self._sources[source].sequence(number) for source, number in self.places(step)]

    def row(self, position: int) -> PackedSequence:
        """The sequence at one position of the stream: row position % B of batch position // B."""
        step, row = divmod(position, self.batch_sequences)
        source, number = self.places(step)[row]
        return self._sources[source].sequence(number)

    def places(self, step: int) -> list[tuple[str, int]]:
        """(source, number of the sequence) of each row of global batch `step`."""
        drawn: list[tuple[str, int]] = []
        for source, count in self.rows.items():
            numbers = self._numbers(source, self._begin[source] + step * count, count)
            drawn.extend((source, int(number)) for number in numbers)
        order = Permutation(self.batch_sequences, self._seed, "rows", step)
        return [drawn[at] for at in order(np.arange(self.batch_sequences))]

    def _numbers(self, source: str, first: int, count: int) -> np.ndarray:
        """Sequence numbers at traversal positions first .. first + count - 1 of one source."""
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
        """What the first `steps` global batches hold, by source: "sequences", "tokens", "epochs"."""
        result: dict[str, dict[str, float]] = {}
        for name, rows in self.rows.items():
            begin, sequences = self._begin[name], steps * rows
            tokens = self._tokens(name, begin + sequences) - self._tokens(name, begin)
            epochs = sequences / len(self._sources[name])
            result[name] = {"sequences": sequences, "tokens": tokens, "epochs": epochs}
        return result

    def parts(self, steps: int) -> dict[str, dict[str, dict[str, float]]]:
        """What the first `steps` global batches hold of the named parts of a source that has any.

        Returns:
            By source and part: "sequences", "tokens", "epochs".
        """
        begin, result = self.passed(0), {}
        for name, passed in self.passed(steps).items():
            source = self._sources[name]
            if len(source.parts) < 2:
                continue
            before, after = self._part_counts(name, begin[name]), self._part_counts(name, passed)
            result[name] = {
                part: {
                    "sequences": int(after[part][0] - before[part][0]),
                    "tokens": int(after[part][1] - before[part][1]),
                    "epochs": float(after[part][0] - before[part][0]) / size,
                }
                for part, size in source.parts.items()
            }
        return result

    def _part_counts(self, name: str, sequences: int) -> dict[str, np.ndarray]:
        """Sequences and tokens, int64 (2,), of each part in the first sequences of a source."""
        source = self._sources[name]
        epochs, rest = divmod(sequences, len(source))
        whole = source.count_parts(np.arange(len(source)))
        begun = source.count_parts(self._epoch(name, epochs)(np.arange(rest)))
        return {part: epochs * np.array(whole[part]) + begun[part] for part in whole}

    def passed(self, steps: int) -> dict[str, int]:
        """Sequences of each source gone through after `steps` global batches, earlier runs included."""
        return {name: self._begin[name] + steps * rows for name, rows in self.rows.items()}

    def _tokens(self, name: str, sequences: int) -> int:
        """Tokens of the first sequences of a source, in the order in which it is gone through."""
        source = self._sources[name]
        epochs, rest = divmod(sequences, len(source))
        begun = self._epoch(name, epochs)(np.arange(rest))
        return epochs * source.total_tokens + int(source.sequence_lengths[begun].sum())

    def available_steps(self, max_epochs: float) -> int:
        """Global batches before the domain text would be gone through more than `max_epochs` times.

        Replay text may be seen more often: it only holds old knowledge in place; the ledger says how often.
        """
        left = int(max_epochs * len(self._sources[DOMAIN])) - self._begin[DOMAIN]
        return max(0, left) // self.rows[DOMAIN]

    def passes(self, steps: int) -> float:
        """How often the domain text is gone through after `steps` global batches, earlier runs included."""
        return self.passed(steps)[DOMAIN] / len(self._sources[DOMAIN])

    def available_tokens(self, max_epochs: float) -> int:
        """Tokens, replay included, of the global batches that `available_steps` allows."""
        return sum(int(counts["tokens"]) for counts in self.ledger(self.available_steps(max_epochs)).values())
