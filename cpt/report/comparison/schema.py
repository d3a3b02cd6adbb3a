"""Define the facts of a comparison, as printed by `--json`. Losses are in bits per byte."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cpt.report.schema import Fact, Gate, Interval, Probe, Suites, Task, TaskCurve

WRITTEN = 0.0005
"""Half of the last printed decimal, in bits per byte; a smaller difference does not count."""


class ComparedProbe(Probe):
    """A probe of one run in a comparison.

    change: final model minus base, by the measure of the comparison.
    apart: reason why the figure is not comparable; empty if it is.
    offset: first level of the training above that of the other runs on the same text; None without a curve on
        that text. A different level comes from another vocabulary, base model or sample.
    """

    change: Interval | None = None
    apart: str = ""
    offset: float | None = None

    @property
    def began_alike(self) -> bool:
        """Return True if training began at the other runs' level, so that its changes are comparable."""
        return self.offset is not None and abs(self.offset) < WRITTEN


class RunRow(Fact):
    """One run of a comparison.

    page: the run's own report, relative to the comparison's folder; None without one.
    missing: stages of its recipe that have not finished.
    tokens: trained tokens by source. seconds: time of all stages.
    recall: groups of the recall probe.
    in_training: accuracies of tasks during training.
    gates, actions: limits of the recipe, and number of the controller's actions.
    other_items: tasks, suites and recall groups (as `recall:untrained`) on which the run answered other items
        than most runs.
    on_front: True if no other run dominates it; None if it is not comparable.
    """

    number: int
    name: str
    state: str
    folder: str
    page: str | None = None
    base: str
    created: str
    missing: list[str]
    probes: dict[str, ComparedProbe]
    tasks: dict[str, Task]
    recall: dict[str, Task]
    suites: Suites | None = None
    in_training: dict[str, TaskCurve]
    gates: list[Gate]
    actions: int
    other_items: list[str]
    tokens: dict[str, int]
    steps: int | None = None
    tokens_per_second: float | None = None
    seconds: float = 0.0
    vocabulary: int | None = None
    on_front: bool | None = None
    beaten_by: list[str] = Field(default=[])

    @property
    def trained(self) -> int:
        """Return the number of trained tokens of all sources."""
        return sum(self.tokens.values())


class Setting(Fact):
    """A setting in which recipes differ; `values` by run, without runs that lack it."""

    key: str
    values: dict[str, Any]


class Pair(Fact):
    """Difference of two runs on one text: change of b minus change of a, in bits per byte.

    paired: True if the interval is paired by document, False if it treats the runs as independent.
    """

    probe: str
    a: str
    b: str
    difference: Interval
    paired: bool


class Best(Fact):
    """The best run by one figure, and runs that differ from it only by noise; best value first."""

    figure: str
    runs: list[str]
    value: float


class Comparison(Fact):
    """Facts of a comparison of several runs.

    front: runs that no other run dominates on domain and general text, largest domain gain first.
    notes: what is not comparable, with reasons.
    """

    verdict: str
    basis: str
    created: str
    confidence: float
    notes: list[str]
    front: list[str]
    best: dict[str, Best]
    runs: list[RunRow]
    pairs: list[Pair]
    settings: list[Setting]
