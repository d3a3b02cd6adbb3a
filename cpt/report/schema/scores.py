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
