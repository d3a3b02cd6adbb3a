"""Define the facts of a training: loss, learning rate, tokens, limits, controller, updates by layer."""

# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from typing import Literal

from cpt.report.schema.measurements import CurvePoint, Fact, TaskCurve


class TrainingStep(Fact):
    """One optimizer step.

    smoothed: exponential average of the loss.
    loss_parts: unweighted terms of an objective that has several.
    """

    step: int
    tokens: int
    loss_nats: float | None = None
    smoothed: float | None = None
    lr: float | None = None
    loss_parts: dict[str, float | None] = {}


class SchedulePhase(Fact):
    """A phase of the learning-rate schedule; `tokens`: tokens trained before it began."""

    name: str
    tokens: int


class EarlyEnd(Fact):
    """The end of a training by a gate.

    early: False if it came at the last step, where a gate chose an earlier point.
    result_step, result: step whose weights are the result, and the choice explained in words.
    """

    step: int
    result_step: int
    action: str
    result: str = ""
    why: str = ""
    early: bool = True


class MixtureUpdate(Fact):
    """An update of online mixing.

    losses: bits per byte of each part's held-out text. shares: of the domain's rows, by part.
    """

    step: int
    tokens: int
    losses: dict[str, float]
    shares: dict[str, float]


class Training(Fact):
    """The newest training stage, which the curves show; `trainings`: number of training stages."""

    stage: str
    trainings: int = 1
    steps: int
    tokens: int
    tokens_per_second: float | None = None
    points: list[TrainingStep] = []
    phases: list[SchedulePhase] = []
    ended: EarlyEnd | None = None
    mixture: list[MixtureUpdate] = []


class TrainedTokens(Fact):
    """Ledger of one source: what was trained on.

    tokens_without_loss: tokens whose weight in the loss is 0.
    parts, listed: the same for each named part of a mixture, and for each listed source.
    """

    tokens: int
    tokens_without_loss: int = 0
    sequences: int | None = None
    bytes: int | None = None
    epochs: float | None = None
    parts: dict[str, TrainedTokens] = {}
    listed: dict[str, TrainedTokens] = {}

    @property
    def tokens_with_loss(self) -> int:
        """Return the number of tokens that were learnt."""
        return self.tokens - self.tokens_without_loss


Verdict = Literal["held", "not shown", "at risk", "broken", "not measured"]
"""Verdicts on a limit. A finished training has held, not shown or broken; the others are interim."""

WORST_FIRST: tuple[Verdict, ...] = ("broken", "at risk", "not shown", "not measured", "held")


class Gate(Fact):
    """A limit of the recipe, and its verdict at the end of training.

    limit: text of the limit in the recipe; `allowed` in `unit`.
    value, error: value measured against the limit, and its standard error, from `items` documents.
    needed_items: number of documents with which a true rise of 4/3 of the limit is found broken.
    key: recipe key of the gate.
    stage: stage that it bounds; empty in reports of other versions.
    """

    limit: str
    probe: str
    allowed: float | None = None
    unit: str = ""
    action: str
    verdict: Verdict
    value: float | None = None
    error: float | None = None
    items: int | None = None
    needed_items: int | None = None
    key: str = ""
    stage: str = ""
    why: str = ""

    def limits_change_of(self, probe: str) -> bool:
        """Return True if the limit bounds the change of this probe and can be drawn into its curve."""
        return self.probe == probe and self.unit in ("bits per byte", "accuracy", "p_gold")

    def limits_recovery_of(self, probe: str) -> bool:
        """Return True if the limit is the share of the run's tokens by which this probe must recover."""
        return self.probe == probe and self.unit == "share of tokens"

    @property
    def remedy(self) -> str:
        """Return the sample size that would decide a limit that is not shown to be held; "" if unknown."""
        if self.verdict != "not shown" or self.needed_items is None or self.needed_items <= (self.items or 0):
            return ""
        words = {"accuracy": "questions", "p_gold": "questions", "nats per token": "samples"}
        items = words.get(self.unit, "documents")
        return f"About {self.needed_items:,} {items} would show it."

    @property
    def used(self) -> float | None:
        """Return the used share of the limit: 1 is all of it, 0 or less is none."""
        if not self.allowed or self.value is None:
            return None
        return self.value / self.allowed


class Action(Fact):
    """An action of the gate controller on a limit at risk: a setting changed `before` → `after`.

    result: weights that an ended training returns, in words.
    stage: training in which it acted; empty in reports of other versions.
    """

    step: int
    tokens: int
    limit: str
    probe: str
    action: str
    value: float | None = None
    error: float | None = None
    before: float | str | None = None
    after: float | str | None = None
    key: str = ""
    stage: str = ""
    result: str = ""
    why: str = ""


class ControlPoint(Fact):
    """Settings of the gate controller after a step: share of replay, and factor of the learning rate."""

    step: int
    tokens: int
    replay_share: float | None = None
    rate_factor: float | None = None


class LayerUpdates(Fact):
    """Relative update of each layer against the base: ‖w - w₀‖ / ‖w₀‖.

    steps, tokens: position of each reading.
    layers: layer numbers, bottom first; `updates`: [layers][readings].
    total, embeddings, head, bottom_top: [readings]; bottom_top is the mean update of the bottom layers over
        that of the top layers (Guo et al. 2024 find more than 1.35 early in training).
    """

    steps: list[int]
    tokens: list[int]
    layers: list[int]
    updates: list[list[float | None]]
    total: list[float | None] = []
    embeddings: list[float | None] = []
    head: list[float | None] = []
    bottom_top: list[float | None] = []


class NewTokens(Fact):
    """Mean norm of new embedding rows over that of old rows, on the input and output side."""

    step: int
    tokens: int
    input: float | None = None
    output: float | None = None


class SourceTokens(Fact):
    """Trained tokens over time: `tokens` of all sources, [points], and `sources`, [points] of each."""

    tokens: list[int]
    sources: dict[str, list[int]]


class Sample(Fact):
    """A prompt from held-out text, and its continuations by the base and by the trained model."""

    source: str
    prompt: str
    before: str
    after: str


class ProbeCost(Fact):
    """Cost of a probe: seconds of all its readings, and how many of the wanted readings were made.

    work: work of its readings as a share of the training's work.
    smallest_share: smallest share of its sample that a reading was reduced to.
    """

    seconds: float
    readings: int | None = None
    wanted: int | None = None
    work: float | None = None
    smallest_share: float | None = None


class MonitorCost(Fact):
    """Cost of all probes: allowed and used share of the training's work, and share of its time.

    work: None in records of versions that bounded time.
    """

    probe_share: float | None = None
    work: float | None = None
    share: float | None = None
    probes: dict[str, ProbeCost] = {}


class Monitoring(Fact):
    """Readings of the newest training, except held-out texts; limits and actions of all stages."""

    gates: list[Gate] = []
    actions: list[Action] = []
    control: list[ControlPoint] = []
    tasks: dict[str, TaskCurve] = {}
    drift: list[CurvePoint] = []
    early_end: list[CurvePoint] = []
    layers: LayerUpdates | None = None
    new_tokens: list[NewTokens] = []
    sources: SourceTokens | None = None
    samples: list[Sample] = []
    cost: MonitorCost | None = None

    def bounds(self, stage: str) -> tuple[list[Gate], list[Action]]:
        """Return the limits and actions of one training; those without a stage are the only one's."""
        own = (stage, "")
        return [gate for gate in self.gates if gate.stage in own], [
            action for action in self.actions if action.stage in own
        ]

    @property
    def bounded(self) -> list[str]:
        """Return the names of the stages with limits or actions, in their order."""
        stages = [*(gate.stage for gate in self.gates), *(action.stage for action in self.actions)]
        return list(dict.fromkeys(stage for stage in stages if stage))
