"""What a training was made of: its loss and rate, its phases, its tokens by source."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.base import Fact


class TrainingStep(Fact):
    """One optimizer step.

    smoothed: exponential average of the loss.
    loss_parts: of an objective that has several terms, each not weighted.
    """

    step: int
    tokens: int
    loss_nats: float | None = None
    smoothed: float | None = None
    lr: float | None = None
    loss_parts: dict[str, float | None] = {}


class SchedulePhase(Fact):
    """A phase of the learning-rate schedule, and the tokens trained before it began."""

    name: str
    tokens: int


class EarlyEnd(Fact):
    """Why a training ended before its last step, and the step whose model is its result.

    result: in words which weights those are, and why they are chosen.
    """

    step: int
    result_step: int
    action: str
    result: str = ""
    why: str = ""


class Training(Fact):
    """The training stage that the curves show: the newest; `trainings` counts all of them."""

    stage: str
    trainings: int = 1
    steps: int
    tokens: int
    tokens_per_second: float | None = None
    points: list[TrainingStep] = []
    phases: list[SchedulePhase] = []
    ended: EarlyEnd | None = None


class TrainedTokens(Fact):
    """What the ledger says was trained on of one source; `parts`: of each named part of a mixture."""

    tokens: int
    sequences: int | None = None
    bytes: int | None = None
    epochs: float | None = None
    parts: dict[str, TrainedTokens] = {}
