"""What every part of the facts is made of.

Held-out texts and tasks, before, during and after training. Texts are in bits per byte.

Scores of benchmarks, before and after; losses are not here but in `probes`.
"""

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
    """One reading of a probe during training.

    rise, rise_error: change since the first reading on the same items, and its paired standard error.
    share: how much of the probe's sample was read.
    """

    step: int
    tokens: int
    value: float | None
    standard_error: float | None = None
    rise: float | None = None
    rise_error: float | None = None
    share: float | None = None


class StabilityGap(Fact):
    """How far a curve went the wrong way, and whether it came back.

    depth, area: largest loss against the base level during training, and that loss summed over tokens
        (the probe's unit times tokens).
    trough_step, recovery_step: where the loss is largest, and where the base level is reached again
        (None: never).
    gap, forgotten: whether the depth, and what is left of it at the end, are more than noise.
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
    """What a probe's curve alone says: the base and the last reading of the training stage."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None


class Probe(StabilityGap):
    """Held-out text of one kind, before and after.

    before, after: base model and final model; on evaluate's held-out text (`measured_by` evaluate), else the
        first and last reading of the training curve.
    permanent: after minus before.
    sample: fingerprint of the documents that training's probe read, and how much of each.
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
    """Figures of a task's accuracies during training (De Lange et al. 2022), shares of 1.

    min_acc, wc_acc: lowest accuracy, and the worst case of all tasks together.
    windowed_forgetting, windowed_plasticity: largest fall and largest rise within a window of readings.
    """

    min_acc: float | None = None
    wc_acc: float | None = None
    windowed_forgetting: float | None = None
    windowed_plasticity: float | None = None


class TaskCurve(StabilityGap):
    """A task's accuracy during training; shares of 1, higher is better."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None
    continual: Continual | None = None


class Task(Fact):
    """A benchmark task's score, before and after; shares of 1."""

    metric: str = "accuracy"
    items: int | None = None
    chance: float | None = None
    before: Interval
    after: Interval
    difference: Interval


class PairedScores(Fact):
    """Two scores on the same items (`evals.comparing.comparison`): A is the base, B the final model.

    p_adjusted: corrected for the number of questions of its family; decides the verdict.
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


class SuiteTask(PairedScores):
    """A task of a suite."""

    task: str
    group: str = ""
    metric: str
    n: int


class SuiteGroup(PairedScores):
    """The mean of a group's tasks."""

    group: str
    tasks: int


class SuiteAverage(PairedScores):
    """The macro average of a suite over `tasks` tasks, of those compared."""

    tasks: int
    of: int | None = None


class NoSignal(Fact):
    """A task on which neither model is above guessing."""

    task: str
    suite: str
    metric: str
    n: int
    a: float
    a_stderr: float | None = None
    b: float
    b_stderr: float | None = None
    guessing: float | None = None


class Retention(Fact):
    """A suite's gain and the general suite's change, in one number (`evals.comparing.retention`)."""

    general: str
    points: float
    interval: tuple[float, float] | None = None
    verdict: Literal["better", "worse", "no change"]


class SkippedTask(Fact):
    """A task that could not run, and why."""

    task: str
    suite: str
    why: str


class Suites(Fact):
    """What suites of benchmarks say of the base and the final model; `levels` by suite."""

    levels: dict[str, str] = {}
    averages: dict[str, SuiteAverage] = {}
    groups: list[SuiteGroup] = []
    tasks: dict[str, SuiteTask] = {}
    no_signal: list[NoSignal] = []
    retention: dict[str, Retention] = {}
    left_out: list[SkippedTask] = []
    not_compared: list[SkippedTask] = []

    @property
    def by_suite(self) -> dict[str, list[SuiteTask]]:
        """The tasks of each suite."""
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
        """Return the suites in which no task has an average to be in, as all are at guessing."""
        silent = dict.fromkeys(task.suite for task in self.no_signal)
        return [suite for suite in silent if suite not in self.averages]
