"""The facts of a comparison, as `--json` prints them. Losses are in bits per byte, lower is better."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cpt.report.schema import Fact, Gate, Interval, Probe, Suites, Task, TaskCurve

WRITTEN = 0.0005
"""Half of the last decimal that a page writes, in bits per byte: a smaller difference is none."""


class ComparedProbe(Probe):
    """A probe of one run as it is compared.

    change: final model minus base, by the measure that the comparison goes by.
    apart: why this figure cannot be compared with the other runs'; empty if it can.
    offset: level at which training began, above that of the other runs on the same text; None where there is
        no curve on that text. Another level than theirs comes from another vocabulary, base model or sample.
    """

    change: Interval | None = None
    apart: str = ""
    offset: float | None = None

    @property
    def began_alike(self) -> bool:
        """Whether what training changed can be set against the other runs'."""
        return self.offset is not None and abs(self.offset) < WRITTEN


class RunRow(Fact):
    """One run.

    page: its own report, relative to the comparison's folder; None without one.
    missing: stages of its recipe that have not finished.
    tokens: trained, by source. seconds: of all stages; training_seconds: of training alone.
    in_training: accuracies of tasks during training.
    gates, actions: the recipe's budgets, and how often the controller acted on them.
    other_items: tasks and suites of which the run answered other items than most.
    on_front: whether no other run dominates it; None where it cannot be compared.
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
        """Tokens of all sources."""
        return sum(self.tokens.values())


class Setting(Fact):
    """A setting in which recipes differ: by run; a run that lacks it is left out."""

    key: str
    values: dict[str, Any]


class Pair(Fact):
    """How far two runs are apart on one text: change of b minus change of a, in bits per byte.

    paired: whether the interval was found document by document; else the two count as independent.
    """

    probe: str
    a: str
    b: str
    difference: Interval
    paired: bool


class Best(Fact):
    """The best run by one figure, and those that the noise does not tell from it; best value first."""

    figure: str
    runs: list[str]
    value: float


class Comparison(Fact):
    """Several runs, and what can be said of them together.

    front: runs that no other dominates on domain and general text together, most domain gain first.
    notes: what is not compared, and why.
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
