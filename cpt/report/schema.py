"""The facts of a run, as `report.json` holds them. Losses are in bits per byte unless the name says nats."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Base of every part of the facts: frozen, and tolerant of figures that a later stage adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(Fact):
    """A figure with its confidence interval; the bounds are None where nothing is known of the noise."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.low is not None and self.high is not None

    @property
    def is_noise(self) -> bool:
        """Whether the interval includes zero: a difference that cannot be told from none."""
        return self.low is not None and self.high is not None and self.low <= 0.0 <= self.high


class CurvePoint(Fact):
    """One reading of a probe during training."""

    step: int
    tokens: int
    value: float | None
    standard_error: float | None = None


class ProbeTraining(Fact):
    """What a probe's curve alone says: the base and the last reading of the training stage."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None


class Probe(Fact):
    """Held-out text of one kind, before and after.

    before, after: base model and final model; on evaluate's held-out text (`measured_by` evaluate), else the
        first and last reading of the training curve.
    permanent: after minus before.
    depth, area: largest rise over the base level during training, and the rise summed over tokens
        (bits per byte times tokens).
    trough_step, recovery_step: where the rise is largest, and where the base level is reached again
        (None: never).
    """

    before: float | None = None
    after: float | None = None
    depth: float | None = None
    trough_step: int | None = None
    trough_tokens: int | None = None
    recovery_step: int | None = None
    recovery_tokens: int | None = None
    area: float | None = None
    permanent: float | None = None
    measured_by: Literal["evaluate", "training"] = "training"
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    difference: Interval | None = None
    documents: int | None = None
    bytes: int | None = None
    training: ProbeTraining | None = None
    curve: list[CurvePoint] = []


class Task(Fact):
    """A benchmark task's score, before and after; shares of 1."""

    metric: str = "accuracy"
    items: int | None = None
    chance: float | None = None
    before: Interval
    after: Interval
    difference: Interval


class Compared(Fact):
    """Two scores on the same items (`evals.comparing.comparison`): A is the base, B the final model.

    p_adjusted: corrected for the number of tasks (of suites); decides the verdict.
    visible: smallest true difference that would be found.
    """

    suite: str
    a: float
    a_stderr: float | None = None
    b: float
    b_stderr: float | None = None
    difference: float
    interval: tuple[float, float] | None = None
    p_adjusted: float
    visible: float | None = None
    verdict: Literal["better", "worse", "no change"]


class SuiteTask(Compared):
    """A task of a suite."""

    task: str
    metric: str
    n: int


class SuiteAverage(Compared):
    """The macro average of a suite."""

    tasks: int


class Retained(Fact):
    """A suite's gain and the general suite's change, in one number (`evals.comparing.retention`)."""

    general: str
    points: float
    interval: tuple[float, float] | None = None
    verdict: Literal["better", "worse", "no change"]


class LeftOut(Fact):
    """A task that could not run, and why."""

    task: str
    suite: str
    why: str


class Suites(Fact):
    """What suites of benchmarks say of the base and the final model; `levels` by suite."""

    levels: dict[str, str] = {}
    averages: dict[str, SuiteAverage] = {}
    tasks: dict[str, SuiteTask] = {}
    retention: dict[str, Retained] = {}
    left_out: list[LeftOut] = []
    not_compared: list[LeftOut] = []

    @property
    def by_suite(self) -> dict[str, list[SuiteTask]]:
        """The tasks of each suite."""
        names = dict.fromkeys(task.suite for task in self.tasks.values())
        return {name: [task for task in self.tasks.values() if task.suite == name] for name in names}


class TrainingPoint(Fact):
    """One optimizer step. `smoothed` is an exponential average of the loss."""

    step: int
    tokens: int
    loss_nats: float | None = None
    smoothed: float | None = None
    lr: float | None = None


class SchedulePhase(Fact):
    """A phase of the learning-rate schedule, and the tokens trained before it began."""

    name: str
    tokens: int


class Training(Fact):
    """The training stage that the curves show: the newest; `trainings` counts all of them."""

    stage: str
    trainings: int = 1
    steps: int
    tokens: int
    tokens_per_second: float | None = None
    points: list[TrainingPoint] = []
    phases: list[SchedulePhase] = []


class Trained(Fact):
    """What the ledger says was trained on of one source."""

    tokens: int
    sequences: int | None = None
    bytes: int | None = None
    epochs: float | None = None


class Split(Fact):
    """One split of a source's documents; `bytes` of UTF-8, `tokens` with start and end tokens."""

    documents: int
    bytes: int | None = None
    tokens: int | None = None
    sequences: int | None = None


class Documents(Fact):
    """A source's documents: `documents_in` = both splits + everything in `removed`."""

    documents_in: int | None = None
    removed: dict[str, int] = {}
    splits: dict[str, Split] = {}

    @property
    def balanced(self) -> bool:
        """Whether every document that came in is accounted for."""
        kept = sum(split.documents for split in self.splits.values())
        return self.documents_in == kept + sum(self.removed.values())


class Vocabulary(Fact):
    """Size of the vocabulary and bytes per token of held-out domain text, base and final tokenizer."""

    before: int | None = None
    after: int | None = None
    bytes_per_token_before: float | None = None
    bytes_per_token_after: float | None = None
    added: int | None = None
    rows: int | None = None


class MergedModel(Fact):
    """A model that went into the merge, by the name of its stage."""

    model: str
    weight: float | None = None


class Merge(Fact):
    """How the final model was merged."""

    stage: str
    method: str
    models: list[MergedModel] = []


class StageFact(Fact):
    """One finished stage. `made` is when its artifact was finished (ISO 8601)."""

    name: str
    kind: str
    seconds: float
    made: str = ""
    fingerprint: str


class Facts(Fact):
    """Everything that the page shows, JSON-able."""

    name: str
    title: str
    base: str
    verdict: str
    basis: str
    created: str
    confidence: float
    probes: dict[str, Probe] = {}
    tokens: dict[str, int] = {}
    tokens_per_second: float | None = None
    seconds: dict[str, float] = {}
    vocabulary: Vocabulary = Vocabulary()
    tasks: dict[str, Task] = {}
    suites: Suites | None = None
    training: Training | None = None
    ledger: dict[str, Trained] = {}
    documents: dict[str, Documents] = {}
    merge: Merge | None = None
    stages: list[StageFact] = []
    absent: list[str] = []
    recipe: str = ""
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}
