"""Hold the state of a run that trains, and the result of a finished one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from cpt.errors import StageFailed
from cpt.monitor.reading import Reading
from cpt.sources import WITHOUT_LOSS
from cpt.training.checkpoint import CheckpointKind
from cpt.training.data import PackedSequence, Stream

Counts = dict[str, dict[str, int]]
"""Sequences and tokens by source."""


@dataclass
class State:
    """The state of the loop, which is in every checkpoint. It is not rolled back after an anomaly.

    Attributes:
        step: number of global batches consumed: trained on, or dropped because of an anomaly.
        tokens: number of tokens in those batches.
        seconds: time spent on steps.
        probe_seconds: time spent on probes.
        checkpoint_seconds: time that the loop waited for checkpoints and snapshots.
        counted: sequences and tokens that were trained on, by source.
        dropped: numbers of the global batches that were skipped or rolled back.
        losses: losses of the last batches that were trained on, in nats.
        readings: readings of all probes so far; a checkpoint has them in a file of their own (`ProbeRunner`).
        baselines: first reading of each probe, item by item.
        wanted: number of readings of each probe that were due.
        anomalies: anomalies and the actions on them, one record each.
        phases: [first step, replay rows] of the stream where a gate has changed the recipe's share.
        mixture: updates of the weights of the domain's parts (`cpt.training.features.skill_it`).
        control: memory of the gate controller; None before the first reading.
        judged: number of readings that gates have acted on.
        actions: actions on limits, one record each.
        ended: step and reason of an early end, and the step whose weights are the result.
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
    mixture: list[dict[str, Any]] = field(default_factory=list)
    control: dict[str, Any] | None = None
    judged: int = 0
    actions: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None

    @property
    def latest(self) -> dict[str, float]:
        """Last value of every probe, in the order of their first readings."""
        found: dict[str, float] = {}
        for reading in reversed(self.readings):
            found.setdefault(reading["probe"], reading["value"])
            if len(found) == len(self.baselines):
                break
        return {name: found[name] for name in self.baselines if name in found}

    def state_dict(self) -> Mapping[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "readings"}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for name, value in saved.items():
            setattr(self, name, value)

    @property
    def trained_steps(self) -> int:
        """Number of steps whose effect is in the weights."""
        return self.step - len(self.dropped)

    def count(self, batch: Sequence[PackedSequence]) -> None:
        """Count a global batch that was trained on."""
        _add(self.counted, batch)
        self._pass(batch)

    def drop(self, batch: Sequence[PackedSequence]) -> None:
        """Count a global batch whose gradient was dropped."""
        self.dropped.append(self.step)
        self._pass(batch)

    def forget_since(self, good: Mapping[str, Any], step: int) -> None:
        """Count the batches since an earlier state, whose weights are restored, as dropped.

        Args:
            good: the earlier state, or what `trained` returned of it.
            step: step of the earlier state.
        """
        self.counted = {source: dict(counts) for source, counts in good["counted"].items()}
        self.losses = list(good["losses"])
        self.dropped = [*good["dropped"], *range(step, self.step)]

    def trained(self) -> dict[str, Any]:
        """Return what the present weights were trained on, for `forget_since`."""
        return copy.deepcopy({"counted": self.counted, "losses": self.losses, "dropped": self.dropped})

    def checked_ledger(self, stream: Stream) -> Mapping[str, Mapping[str, float]]:
        """Return the stream's ledger of what was trained on, by source, which must equal what was counted.

        Where batches were dropped, entries also hold `skipped_sequences` and `skipped_tokens`; epochs count
        only what was trained on.

        Raises:
            StageFailed: the ledger and the counts differ.
        """
        skipped: Counts = {}
        for step in self.dropped:
            _add(skipped, stream.batch(step))
        ledger = {}
        for source, entry in stream.ledger(self.step).items():
            keys = [key for key in ("sequences", "tokens", WITHOUT_LOSS) if key in entry]
            lost = {key: skipped.get(source, {}).get(key, 0) for key in keys}
            trained = {key: entry[key] - lost[key] for key in keys}
            counted = self.counted.get(source, {})
            wrong = next((key for key in reversed(keys) if trained[key] != counted.get(key, 0)), None)
            if wrong:
                raise StageFailed(
                    f"by the ledger {trained[wrong]:.0f} {wrong.replace('_', ' ')} of {source} were trained "
                    f"on, by the loop {counted.get(wrong, 0)}",
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
        self.tokens += sum(sequence.length for sequence in batch)


def _add(counts: Counts, batch: Sequence[PackedSequence]) -> None:
    for sequence in batch:
        entry = counts.setdefault(sequence.source, {"sequences": 0, "tokens": 0})
        entry["sequences"] += 1
        entry["tokens"] += sequence.length
        if sequence.without_loss is not None:
            entry[WITHOUT_LOSS] = entry.get(WITHOUT_LOSS, 0) + sequence.without_loss


@dataclass(frozen=True)
class Result:
    """The result of a finished run.

    Attributes:
        steps: number of global batches consumed.
        tokens: number of tokens trained on.
        seconds, probe_seconds, checkpoint_seconds: see `State`.
        ledger: sequences, tokens and epochs by source, checked against what the loop counted.
        dropped, wanted, anomalies: see `State`.
        phases: (first step, replay rows) of the stream.
        mixture: see `State`.
        actions, ended: see `State`.
        kept: steps whose weights a later run can start from, each with the reason.
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
    mixture: list[dict[str, Any]]
    actions: list[dict[str, Any]]
    ended: dict[str, Any] | None
    kept: Mapping[int, CheckpointKind]

    @classmethod
    def of(cls, state: State, stream: Stream, kept: Mapping[int, CheckpointKind]) -> Result:
        """Return the result of a run after its last step.

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
            state.mixture,
            state.actions,
            state.ended,
            {**kept, state.step: "last"},
        )
