"""Scores of benchmarks, before and after; losses are not here but in `probes`."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from typing import Literal

from cpt.report.schema.base import Fact, Interval


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
