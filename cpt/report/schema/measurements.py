"""Define the facts of what was measured: held-out texts, tasks and benchmarks.

Texts are in bits per byte, scores of tasks and suites are shares of 1.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Base class of all facts: frozen, ignores fields that a later version adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(Fact):
    """A figure with its confidence interval; the bounds are None if the noise is unknown."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Return True if the interval has bounds."""
        return self.low is not None and self.high is not None

    @property
    def is_noise(self) -> bool:
        """Return True if the interval includes zero, so that the difference may be noise."""
        return self.low is not None and self.high is not None and self.low <= 0.0 <= self.high


class CurvePoint(Fact):
    """One reading of a probe during training.

    rise, rise_error: change since the first reading on the same items, and its paired standard error.
    share: share of the probe's sample that was read.
    """

    step: int
    tokens: int
    value: float | None
    standard_error: float | None = None
    rise: float | None = None
    rise_error: float | None = None
    share: float | None = None


class StabilityGap(Fact):
    """The stability gap of a curve: how much worse it got, and when it recovered.

    depth, area: largest deterioration against the base level during training, and the deterioration summed
        over tokens (unit of the probe times tokens).
    trough_step, recovery_step: step of the largest deterioration, and step at which the base level is reached
        again (None: never).
    gap, forgotten: True if the depth, and the deterioration left at the end, exceed the noise.
    """

    depth: float | None = None
    depth_error: float | None = None
    trough_step: int | None = None
    trough_tokens: int | None = None
    recovery_step: int | None = None
    recovery_tokens: int | None = None
    area: float | None = None
    gap: bool | None = None
    forgotten: bool | None = None
    curve: list[CurvePoint] = []


class ProbeTraining(Fact):
    """First and last level of a probe in the training stage, and the change between them."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None


class Probe(StabilityGap):
    """Loss on held-out text of one kind, before and after.

    before, after: levels of the base model and of the final model on evaluate's held-out text (`measured_by`
        evaluate), else the first and last reading of the training curve.
    permanent: after minus before.
    sample: fingerprint of the documents, and of their parts, that the training probe read.
    """

    before: float | None = None
    after: float | None = None
    permanent: float | None = None
    measured_by: Literal["evaluate", "training"] = "training"
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    difference: Interval | None = None
    documents: int | None = None
    bytes: int | None = None
    training: ProbeTraining | None = None
    sample: str | None = None


class Continual(Fact):
    """Continual-learning figures of a task during training (De Lange et al. 2022), shares of 1.

    min_acc, wc_acc: lowest accuracy, and worst-case accuracy of all tasks together.
    windowed_forgetting, windowed_plasticity: largest fall and largest rise within a window of readings.
    """

    min_acc: float | None = None
    wc_acc: float | None = None
    windowed_forgetting: float | None = None
    windowed_plasticity: float | None = None


class TaskCurve(StabilityGap):
    """Accuracy of a task during training, or its p_gold (`unit`); shares of 1, higher is better."""

    unit: str = "accuracy"
    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None
    continual: Continual | None = None


class PairedFigure(Fact):
    """A figure of two models on the same items."""

    before: Interval
    after: Interval
    difference: Interval


class Task(PairedFigure):
    """Score of a benchmark task, or of a group of the recall probe, before and after; shares of 1.

    p_gold: probability of the right choice among all choices, per byte (`evals.measures`); None if it was not
        recorded.
    """

    metric: str = "accuracy"
    items: int | None = None
    chance: float | None = None
    p_gold: PairedFigure | None = None


class TextScore(PairedFigure):
    """Bits per byte of a held-out text under another model and under the final one."""


class PairedScores(Fact):
    """Two scores on the same items (`evals.comparing.comparison`): A is the base, B the final model.

    p_adjusted: p-value corrected for the number of questions of its family; it decides the verdict.
    minimum_detectable_effect: smallest true difference that would be found.
    """

    suite: str
    a: float
    a_stderr: float | None = None
    b: float
    b_stderr: float | None = None
    difference: float
    interval: tuple[float, float] | None = None
    p_adjusted: float
    minimum_detectable_effect: float | None = None
    verdict: Literal["better", "worse", "no change"]


class SuiteTask(PairedScores):
    """Scores on a task of a suite.

    p_gold: the same by the probability of the right choice; None for a task that is no choice by likelihood.
    """

    task: str
    group: str = ""
    metric: str
    n: int
    p_gold: PairedScores | None = None


class SuiteGroup(PairedScores):
    """Mean scores of a group of tasks."""

    group: str
    tasks: int


class SuiteAverage(PairedScores):
    """Macro average of a suite over `tasks` of the `of` compared tasks."""

    tasks: int
    of: int | None = None


class NoSignal(Fact):
    """A task on which neither model scores above guessing; `p_gold` as of `SuiteTask`."""

    task: str
    suite: str
    metric: str
    n: int
    a: float
    a_stderr: float | None = None
    b: float
    b_stderr: float | None = None
    guessing: float | None = None
    p_gold: PairedScores | None = None


class Retention(Fact):
    """Retention score: the gain of a suite and the change of the general suite in one number.

    See `evals.comparing.retention`.
    """

    general: str
    points: float
    interval: tuple[float, float] | None = None
    verdict: Literal["better", "worse", "no change"]


class SkippedTask(Fact):
    """A task that could not run, with the reason."""

    task: str
    suite: str
    why: str


class SuiteFindings(Fact):
    """Scores of the base and of the final model on suites of benchmarks by one measure."""

    averages: dict[str, SuiteAverage] = {}
    groups: list[SuiteGroup] = []
    tasks: dict[str, SuiteTask] = {}
    no_signal: list[NoSignal] = []

    @property
    def by_suite(self) -> dict[str, list[SuiteTask]]:
        """Return the tasks of each suite."""
        names = dict.fromkeys(task.suite for task in self.tasks.values())
        return {name: [task for task in self.tasks.values() if task.suite == name] for name in names}

    @property
    def lines(self) -> dict[str, list[SuiteAverage | SuiteGroup | SuiteTask]]:
        """Return each suite's average, then its tasks, every group before its tasks."""
        groups = {(group.suite, group.group): group for group in self.groups}
        lines: dict[str, list[SuiteAverage | SuiteGroup | SuiteTask]] = {}
        for suite, tasks in self.by_suite.items():
            rows = lines[suite] = [self.averages[suite]] if suite in self.averages else []
            for name in dict.fromkeys(task.group or task.task for task in tasks):
                rows += [groups[suite, name]] if (suite, name) in groups else []
                rows += [task for task in tasks if (task.group or task.task) == name]
        return lines

    @property
    def without_average(self) -> list[str]:
        """Return the suites without an average: no task is above guessing."""
        silent = dict.fromkeys(task.suite for task in self.no_signal)
        return [suite for suite in silent if suite not in self.averages]


class Suites(SuiteFindings):
    """The same by the tasks' own metrics; `levels` by suite.

    measures: the same by further measures (`evals.measures`).
    chosen: sentence on tasks by half of whose items a model was chosen; empty without any.
    """

    levels: dict[str, str] = {}
    chosen: str = ""
    measures: dict[str, SuiteFindings] = {}
    retention: dict[str, Retention] = {}
    left_out: list[SkippedTask] = []
    not_compared: list[SkippedTask] = []


class FurtherComparison(Fact):
    """Comparison of the final model with a model beside the base: an earlier stage's, or a reference."""

    texts: dict[str, TextScore] = {}
    tasks: dict[str, Task] = {}
    recall: dict[str, Task] = {}
    suites: Suites | None = None
