"""Define the events of a run, which its journal and the views of the command line listen to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class PlannedStage:
    """A line of the plan. `why` and `forecast` may be empty."""

    stage: str
    action: str
    why: str = ""
    forecast: str = ""


@dataclass(frozen=True)
class RunStarted:
    """The begin of a run, with its plan."""

    name: str
    stages: tuple[PlannedStage, ...]


@dataclass(frozen=True)
class StageStarted:
    """The begin of a stage; `continues` if it resumes an interrupted attempt."""

    stage: str
    continues: bool = False


@dataclass(frozen=True)
class StageMessage:
    """A message of a stage."""

    stage: str
    text: str


@dataclass(frozen=True)
class StageAdvanced:
    """The progress of a stage.

    Attributes:
        facts: Current figures by name: loss, tokens_per_second, a probe's bits per byte.
    """

    stage: str
    done: int
    total: int
    unit: str
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingEvent:
    """An event of training, as JSON data.

    reading: a row of `probes.jsonl`. action: a row of `actions.jsonl`, with the sentence `said`.
    verdict: `step`, the sentence `said` about the limits, and each of the `gates` as in `summary.json`.
    mixture: `step`, `tokens`, the share of each part (`share_notes`), and the sentence `said`.
    """

    stage: str
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class StageEnded:
    """The end of a stage.

    Attributes:
        gate: Message of the limits that are not held; empty if all are.
        verdict: Worst verdict of its limits, `broken` or `not shown`.
    """

    stage: str
    outcome: Outcome
    seconds: float
    gate: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class RunEnded:
    """The end of a run."""

    outcome: Outcome
    seconds: float


Event = RunStarted | StageStarted | StageMessage | StageAdvanced | TrainingEvent | StageEnded | RunEnded
Listener = Callable[[Event], None]


def null_listener(event: Event) -> None:
    """Ignore an event: the listener of a run that nobody watches."""


class StageProgress:
    """The `Progress` of one stage, which turns its calls into events."""

    def __init__(self, stage: str, listener: Listener) -> None:
        self._stage = stage
        self._listener = listener

    def message(self, text: str) -> None:
        self._listener(StageMessage(self._stage, text))

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        self._listener(StageAdvanced(self._stage, done, total, unit, facts))

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        self._listener(TrainingEvent(self._stage, kind, facts))


class EtaEstimator:
    """An estimator of the time left of a stage, from its pace so far.

    The pace counts from the first update of this process, so a resumed stage is judged by its own work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = (0.0, 0)
        self.done, self.total, self.unit = 0, 0, ""
        self.facts: dict[str, float] = {}

    def update(self, event: StageAdvanced) -> None:
        """Take in a progress event. Another unit, another total or a step back starts anew."""
        fresh = (event.unit, event.total) != (self.unit, self.total) or event.done < self.done
        self.done, self.total, self.unit = event.done, event.total, event.unit
        if fresh:
            self._begun = (self._clock(), event.done)
        self.facts = {**self.facts, **event.facts}

    @property
    def seconds_left(self) -> float | None:
        """Seconds until done at the pace so far; None before the second update."""
        begun, first = self._begun
        if self.done <= first or self.total <= 0:
            return None
        return (self._clock() - begun) / (self.done - first) * (self.total - self.done)
