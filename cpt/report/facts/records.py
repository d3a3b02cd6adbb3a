"""What a report is made of: the records that finished stages left, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage's `artifact.json` says."""

    name: str
    kind: str
    fingerprint: str
    seconds: float = 0.0
    created: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRecord:
    """The content of a `training/` folder: summary.json, steps.jsonl, probes.jsonl, ledger.json,
    actions.jsonl, samples.json."""

    stage: str
    summary: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]] = ()
    probes: Sequence[Mapping[str, Any]] = ()
    ledger: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    actions: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()

    def readings(self, kind: str) -> dict[str, list[Mapping[str, Any]]]:
        """Readings of the probes of one kind, by probe, in the order of the steps.

        Of a training that went back at its end, they end with those of its result, as the summary does.
        """
        found: dict[str, list[Mapping[str, Any]]] = {}
        ended = self.summary.get("ended")
        last = ended["result_step"] if ended else math.inf
        for row in self.probes:
            if row["kind"] == kind and row["step"] <= last:
                found.setdefault(str(row["probe"]), []).append(row)
        return {name: sorted(rows, key=lambda row: int(row["step"])) for name, rows in found.items()}


@dataclass(frozen=True)
class TokenizerRecord:
    """Tokens in a vocabulary, and bytes per token of held-out domain text; None where unknown."""

    size: int | None = None
    bytes_per_token: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything that a report is made of, as plain data.

    recipe: the whole recipe (name, base, seed, stages).
    stages: finished stages in order, the base model first.
    corpus, scores: corpus.json and scores.json, None where no stage made one.
    tokenizer: the final model's, for runs that leave the base's as it is.
    """

    recipe: Mapping[str, Any]
    stages: Sequence[StageRecord]
    created: str
    machine: Mapping[str, str | int] = field(default_factory=dict)
    title: str | None = None
    corpus: Mapping[str, Any] | None = None
    training: TrainingRecord | None = None
    scores: Mapping[str, Any] | None = None
    tokenizer: TokenizerRecord = TokenizerRecord()
