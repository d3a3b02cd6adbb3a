"""Define the records of finished stages that a report reads, and the shapes of their files.

The shapes cover the containers that `gather` walks through. The figures inside are checked by the facts
(`cpt.report.schema`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


@dataclass(frozen=True)
class StageRecord:
    """Content of a finished stage's `artifact.json`."""

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
    """Content of a `training/` folder.

    Its files: summary.json, steps.jsonl, probes.jsonl, ledger.json, actions.jsonl, mixture.jsonl,
    samples.json.
    """

    stage: str
    summary: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]] = ()
    probes: Sequence[Mapping[str, Any]] = ()
    ledger: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    actions: Sequence[Mapping[str, Any]] = ()
    mixture: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()

    def readings(self, kind: str) -> dict[str, list[Mapping[str, Any]]]:
        """Return the readings of probes of one kind, by probe, in the order of steps.

        Readings after the step of the result are left out, as in the summary: a training that rolled back at
        its end has read discarded weights.
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
    """Size of a vocabulary, and bytes per token of held-out domain text; None if unknown."""

    size: int | None = None
    bytes_per_token: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """All records of a run, as plain data.

    recipe: complete recipe (name, base, seed, stages).
    stages: finished stages in order, the base model first.
    corpus, scores: content of corpus.json and scores.json; None if no stage made one.
    training, earlier: newest training, and those before it, of which only summary and actions are read.
    tokenizer: tokenizer of the final model, for runs that keep the base's tokenizer.
    """

    recipe: Mapping[str, Any]
    stages: Sequence[StageRecord]
    created: str
    machine: Mapping[str, str | int] = field(default_factory=dict)
    title: str | None = None
    corpus: Mapping[str, Any] | None = None
    training: TrainingRecord | None = None
    earlier: Sequence[TrainingRecord] = ()
    scores: Mapping[str, Any] | None = None
    tokenizer: TokenizerRecord = TokenizerRecord()


Figures = dict[str, Any]


class FileShape(BaseModel):
    """Base class of file shapes: frozen, ignores fields that other versions write."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StepRow(FileShape):
    """Row of `steps.jsonl`."""

    step: int
    tokens: int
    sources: dict[str, int] | None = None


class ActionRow(FileShape):
    """Row of `actions.jsonl`."""

    step: int
    action: str


class MixtureRow(FileShape):
    """Row of `mixture.jsonl`."""

    step: int
    tokens: int
    losses: dict[str, float]
    shares: dict[str, float]


class ProbeRow(FileShape):
    """Row of `probes.jsonl`."""

    step: int
    tokens: int
    probe: str
    kind: str
    value: float | None
    detail: Figures | None = None


class Phase(FileShape):
    """Phase of the schedule."""

    name: str
    first: int


class Schedule(FileShape):
    """Schedule in `summary.json`."""

    unit: str = ""
    phases: list[Phase] = []


class ProbeSummary(FileShape):
    """Figures of a text in `report.json` that the command line shows."""

    before: float | None = None
    after: float | None = None
    depth: float | None = None
    difference: dict[str, float | None] | None = None


class AverageSummary(FileShape):
    """Macro averages of a suite in `report.json`."""

    a: float
    b: float
    difference: float
    verdict: str


class SuitesSummary(FileShape):
    """Suites in `report.json` that the command line shows."""

    averages: dict[str, AverageSummary] = {}
    no_signal: list[dict[str, Any]] = []


class IntervalSummary(FileShape):
    """A figure with its interval in `report.json`."""

    value: float
    low: float | None = None
    high: float | None = None


class RecallSummary(FileShape):
    """Figures of a group of the recall probe in `report.json` that the command line shows."""

    before: IntervalSummary
    after: IntervalSummary
    difference: IntervalSummary


class ReportSummary(FileShape):
    """Part of `report.json` that the command line shows."""

    verdict: str = ""
    probes: dict[str, ProbeSummary] = {}
    recall: dict[str, RecallSummary] = {}
    suites: SuitesSummary | None = None


class TrainingEnd(FileShape):
    """End of the training by a gate."""

    result_step: int


class TrainingSummary(FileShape):
    """Content of a training's `summary.json`."""

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
    """Levels that evaluate measured on a text."""

    before: Figures
    after: Figures
    difference: Figures


class Scores(FileShape):
    """Content of an evaluation's `scores.json`."""

    confidence: float = 0.95
    bits_per_byte: dict[str, TextScore] | None = None
    tasks: dict[str, Figures] | None = None
    recall: dict[str, Figures] | None = None
    suites: Figures = {}
    against: dict[str, Figures] = {}


class DocumentScores(FileShape):
    """Losses of the documents of a text, in an evaluation's `documents.json`."""

    texts: list[str]
    nats: list[float]
    bytes: list[int]

    @model_validator(mode="after")
    def _as_many_of_each(self) -> DocumentScores:
        if not len(self.texts) == len(self.nats) == len(self.bytes):
            raise ValueError("the lists differ in length: one figure per document is needed")
        return self
