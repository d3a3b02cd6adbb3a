"""Where a run stands, and what a finished one knows of itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cpt.errors import StageFailed
from cpt.monitor.reading import Reading
from cpt.training.checkpoint.policy import Kept
from cpt.training.data import PackedSequence, Stream

Counts = dict[str, dict[str, int]]
"""Sequences and tokens by source."""


@dataclass
class State:
    """Where a run stands. A part of every checkpoint.

    Attributes:
        step: global batches gone through: trained on, or dropped because of an anomaly.
        tokens: of those batches.
        seconds: spent on steps; `probe_seconds` on probes; `checkpoint_seconds`: that the loop waited for
            checkpoints and snapshots.
        counted: what was trained on.
        dropped: global batches that were skipped, or rolled back.
        losses: of the last batches trained on, in nats.
        readings: of all probes so far; `baselines`: what the first one of each found, item by item;
            `wanted`: how many were due.
        anomalies: what happened and what was done, one record each.
        phases: [first step, replay rows] of the stream where they are not the recipe's from start to end.
        control: what the controller of the gates remembers; None before the first reading.
        judged: readings that it has acted upon.
        actions: what was done because of budgets, one record each.
        ended: where and why the run ended early, and the step whose weights are its result.
        log_bytes: length of the log.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    probe_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    counted: Counts = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    anomalies: list[dict[str, Any]] = field(default_factory=list)
    phases: list[list[int]] = field(default_factory=list)
    control: dict[str, Any] | None = None
    judged: int = 0
    actions: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None
    log_bytes: int = 0

    @property
    def latest(self) -> dict[str, float]:
        """The last value of every probe, in the order of their first readings."""
        found: dict[str, float] = {}
        for reading in reversed(self.readings):
            found.setdefault(reading["probe"], reading["value"])
            if len(found) == len(self.baselines):
                break
        return {name: found[name] for name in self.baselines if name in found}

    def state(self) -> Mapping[str, Any]:
        return asdict(self)

    def restore(self, saved: Mapping[str, Any]) -> None:
        for name, value in saved.items():
            setattr(self, name, value)

    @property
    def trained_steps(self) -> int:
        """Steps whose effect is in the weights."""
        return self.step - len(self.dropped)

    def count(self, batch: Sequence[PackedSequence]) -> None:
        """Enter a global batch that was trained on."""
        _add(self.counted, batch)
        self._pass(batch)

    def drop(self, batch: Sequence[PackedSequence]) -> None:
        """Enter a global batch whose gradient was dropped."""
        self.dropped.append(self.step)
        self._pass(batch)

    def forget_since(self, good: Mapping[str, Any], step: int) -> None:
        """Note that the weights are those of an earlier state again: what was trained since is dropped.

        Args:
            good: that state, of step `step`.
        """
        self.counted = {source: dict(counts) for source, counts in good["counted"].items()}
        self.losses = list(good["losses"])
        self.dropped = [*good["dropped"], *range(step, self.step)]

    def trained(self) -> dict[str, Any]:
        """What the weights now were trained on, as `forget_since` takes it."""
        return copy.deepcopy({"counted": self.counted, "losses": self.losses, "dropped": self.dropped})

    def remember(self, loss_nats: float, window: int) -> None:
        """Keep the last `window` losses."""
        self.losses = [*self.losses, loss_nats][-window:]

    def checked_ledger(self, stream: Stream) -> Mapping[str, Mapping[str, float]]:
        """What was trained on, by source, by the stream's own account, which must equal what was counted.

        Where batches were dropped, entries also hold `skipped_sequences` and `skipped_tokens`; epochs are of
        what was trained on.

        Raises:
            StageFailed: they differ.
        """
        skipped: Counts = {}
        for step in self.dropped:
            _add(skipped, stream.batch(step))
        ledger = {}
        for source, entry in stream.ledger(self.step).items():
            lost = skipped.get(source, {"sequences": 0, "tokens": 0})
            trained = {key: entry[key] - lost[key] for key in lost}
            counted = self.counted.get(source, {"sequences": 0, "tokens": 0})
            if trained != counted:
                raise StageFailed(
                    f"by the ledger {trained['tokens']:.0f} tokens of {source} were trained on, "
                    f"by the loop {counted['tokens']}",
                    hint="The training data are not those that the run began with.",
                )
            ledger[source] = dict(entry)
            if lost["sequences"]:
                share = trained["sequences"] / entry["sequences"]
                ledger[source] |= trained | {f"skipped_{key}": value for key, value in lost.items()}
                ledger[source] |= {"epochs": entry["epochs"] * share}
        return ledger

    def _pass(self, batch: Sequence[PackedSequence]) -> None:
        self.step += 1
        self.tokens += sum(len(sequence.tokens) for sequence in batch)


def _add(counts: Counts, batch: Sequence[PackedSequence]) -> None:
    for sequence in batch:
        entry = counts.setdefault(sequence.source, {"sequences": 0, "tokens": 0})
        entry["sequences"] += 1
        entry["tokens"] += len(sequence.tokens)


@dataclass(frozen=True)
class Result:
    """What a finished training run knows of itself.

    Attributes:
        steps: global batches gone through.
        tokens: trained on.
        seconds, probe_seconds, checkpoint_seconds: see `State`.
        ledger: what was trained on, by source, checked against what the loop counted.
        dropped: see `State`.
        wanted: how many readings of every probe were due.
        anomalies: what happened and what was done, one record each.
        phases: (first step, replay rows) of the stream that it went through.
        actions, ended: see `State`.
        kept: steps whose weights can be started from, and why they are kept.
    """

    steps: int
    tokens: int
    seconds: float
    probe_seconds: float
    checkpoint_seconds: float
    ledger: Mapping[str, Mapping[str, float]]
    dropped: Sequence[int]
    readings: list[Reading]
    wanted: Mapping[str, int]
    anomalies: list[dict[str, Any]]
    phases: list[tuple[int, int]]
    actions: list[dict[str, Any]]
    ended: dict[str, Any] | None
    kept: Mapping[int, Kept]

    @classmethod
    def of(cls, state: State, stream: Stream, kept: Mapping[int, Kept]) -> Result:
        """The result of a run that has gone through all its steps.

        Raises:
            StageFailed: the ledger does not match what was trained on.
        """
        return cls(
            state.step,
            sum(entry["tokens"] for entry in state.counted.values()),
            state.seconds,
            state.probe_seconds,
            state.checkpoint_seconds,
            state.checked_ledger(stream),
            state.dropped,
            [Reading.from_json(reading) for reading in state.readings],
            state.wanted,
            state.anomalies,
            [(first, rows) for first, rows in state.phases],
            state.actions,
            state.ended,
            {**kept, state.step: "last"},
        )
