"""What a training was made of: its loss and rate, its phases, its tokens by source.

What was watched and bounded during training: budgets, the controller's actions, the model's inside.
"""

# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from typing import Literal

from cpt.report.schema.measurements import CurvePoint, Fact, TaskCurve


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


Verdict = Literal["held", "not shown", "at risk", "broken", "not measured"]
"""Of a finished training: held, not shown or broken. The others are of one that goes on."""

WORST_FIRST: tuple[Verdict, ...] = ("broken", "at risk", "not shown", "not measured", "held")


class Gate(Fact):
    """A budget of the recipe, and whether it held when training ended.

    budget: as the recipe states it; `limit` in `unit`.
    value, error: what was measured against the limit, and its standard error, from `items` documents.
    needed_items: number of documents that would show a rise of the limit and a third.
    key: of the gate in the recipe.
    """

    budget: str
    probe: str
    limit: float | None = None
    unit: str = ""
    action: str
    verdict: Verdict
    value: float | None = None
    error: float | None = None
    items: int | None = None
    needed_items: int | None = None
    key: str = ""
    why: str = ""

    def bounds(self, probe: str) -> bool:
        """Whether the limit is one of a probe's change, to be drawn into its curve."""
        return self.probe == probe and self.unit in ("bits per byte", "accuracy")

    def dates(self, probe: str) -> bool:
        """Whether the limit is the share of the run's tokens after which a probe must be back."""
        return self.probe == probe and self.unit == "share of tokens"

    @property
    def remedy(self) -> str:
        """What would show whether the budget is held, where that is not shown."""
        if self.verdict != "not shown" or self.needed_items is None or self.needed_items <= (self.items or 0):
            return ""
        items = {"accuracy": "questions", "nats per token": "samples"}.get(self.unit, "documents")
        return f"About {self.needed_items:,} {items} would show it."

    @property
    def used(self) -> float | None:
        """How much of the budget the measured value takes: 1 is all of it, 0 or less none."""
        if not self.limit or self.value is None:
            return None
        return self.value / self.limit


class Action(Fact):
    """What the controller did when a budget was at risk: a setting went `before` → `after`.

    result: which weights a training that was ended returns, in words.
    """

    step: int
    tokens: int
    budget: str
    probe: str
    action: str
    value: float | None = None
    error: float | None = None
    before: float | str | None = None
    after: float | str | None = None
    key: str = ""
    result: str = ""
    why: str = ""


class ControlPoint(Fact):
    """What the controller may change, after a step: the share of replay and the factor of the rate."""

    step: int
    tokens: int
    replay_share: float | None = None
    rate_factor: float | None = None


class LayerUpdates(Fact):
    """How far each layer has moved from the base: ‖w - w₀‖ / ‖w₀‖.

    steps, tokens: of the readings.
    layers: numbers of the layers, bottom first; `updates`: [layers][readings].
    total, embeddings, head, bottom_top: [readings]; bottom_top is the mean update of the bottom layers over
        that of the top ones (Guo et al. 2024 find more than 1.35 early in training).
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
    """Mean norm of the new tokens' embeddings over that of the old ones', input and output side."""

    step: int
    tokens: int
    input: float | None = None
    output: float | None = None


class SourceTokens(Fact):
    """Tokens trained on so far: `tokens` of all, [points], and `sources`, [points] of each."""

    tokens: list[int]
    sources: dict[str, list[int]]


class Sample(Fact):
    """A prompt from held-out text, and how the base and the trained model go on."""

    source: str
    prompt: str
    before: str
    after: str


class ProbeCost(Fact):
    """What a probe cost: seconds of all its readings; how many were made of those wanted.

    work: share of the training's work that its readings did.
    smallest_share: the smallest part of its sample that a reading was cut to.
    """

    seconds: float
    readings: int | None = None
    wanted: int | None = None
    work: float | None = None
    smallest_share: float | None = None


class MonitorCost(Fact):
    """The share of the training's work that probes did, of what they may do, and the share of its time.

    work: None where a run was made when the budget was one of time.
    """

    budget: float | None = None
    work: float | None = None
    share: float | None = None
    probes: dict[str, ProbeCost] = {}


class Monitoring(Fact):
    """Everything that was watched and bounded during training, beside texts."""

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
