"""What a report is made of: the records that finished stages left, as plain data.

Shapes of the files of finished stages that a report reads, as far as it walks through them.

Figures at the end of the way are checked by the facts themselves (`cpt.report.schema`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


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


Figures = dict[str, Any]


class FileShape(BaseModel):
    """A part of a file; other versions may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StepRow(FileShape):
    """A row of `steps.jsonl`."""

    step: int
    tokens: int
    sources: dict[str, int] | None = None


class ActionRow(FileShape):
    """A row of `actions.jsonl`."""

    step: int
    action: str


class ProbeRow(FileShape):
    """A row of `probes.jsonl`."""

    step: int
    tokens: int
    probe: str
    kind: str
    value: float | None
    detail: Figures | None = None


class Phase(FileShape):
    """A phase of the schedule."""

    name: str
    first: int


class Schedule(FileShape):
    """The schedule as it was."""

    unit: str = ""
    phases: list[Phase] = []


class ProbeSummary(FileShape):
    """A text's figures in `report.json`, as the command line shows them."""

    before: float | None = None
    after: float | None = None
    depth: float | None = None
    difference: dict[str, float | None] | None = None


class AverageSummary(FileShape):
    """A suite's macro averages in `report.json`."""

    a: float
    b: float
    difference: float
    verdict: str


class SuitesSummary(FileShape):
    """What `report.json` says of suites."""

    averages: dict[str, AverageSummary] = {}
    no_signal: list[dict[str, Any]] = []


class ReportSummary(FileShape):
    """`report.json`, as far as the command line shows it."""

    verdict: str = ""
    probes: dict[str, ProbeSummary] = {}
    suites: SuitesSummary | None = None


class TrainingEnd(FileShape):
    """Where a gate ended the training."""

    result_step: int


class TrainingSummary(FileShape):
    """`summary.json` of a training."""

    stability: dict[str, dict[str, bool | float | None]] = {}
    continual: dict[str, Figures] = {}
    gates: list[Figures] | None = None
    samples: dict[str, str | None] = {}
    schedule: Schedule | None = None
    ended: TrainingEnd | None = None
    monitor: Figures | None = None
    steps: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None


class TextScore(FileShape):
    """What evaluate measured on a text."""

    before: Figures
    after: Figures
    difference: Figures


class Scores(FileShape):
    """`scores.json` of an evaluation."""

    confidence: float = 0.95
    bits_per_byte: dict[str, TextScore] | None = None
    tasks: dict[str, Figures] | None = None
    suites: Figures = {}


class DocumentScores(FileShape):
    """What evaluate found on each document of a text, in `documents.json`."""

    texts: list[str]
    nats: list[float]
    bytes: list[int]

    @model_validator(mode="after")
    def _as_many_of_each(self) -> DocumentScores:
        if not len(self.texts) == len(self.nats) == len(self.bytes):
            raise ValueError("not as many figures as documents")
        return self
