"""Handle losses that are not finite, and loss spikes: skip their batch, roll back, or stop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import StageFailed
from cpt.training.feature import Run, TrainingFeature
from cpt.training.features.checkpoints import CheckpointManager
from cpt.training.json_lines import write_lines

if TYPE_CHECKING:
    from cpt.training.data import PackedSequence
    from cpt.training.settings import TrainingConfig
    from cpt.training.state import State
    from cpt.training.step import Gradient

Action = Literal["ignore", "skip", "roll-back", "stop"]

_SIGMAS_PER_DEVIATION = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""


class Anomalies(BaseModel):
    """Settings of what is done about losses that are not finite, and about spikes.

    skip: the batch's gradient is dropped. roll-back: all steps since the last snapshot in memory are dropped,
    too, and training continues after the batch. Dropped batches are not read again, and the ledger counts
    them as skipped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_finite: Literal["stop", "skip", "roll-back"] = Field(
        default="stop", description="What to do when a batch's loss or gradient is NaN or infinite."
    )
    spike: Action = Field(default="ignore", description="What to do when a batch's loss is a spike.")
    spike_threshold: float = Field(
        default=8.0,
        gt=0,
        description="A loss is a spike if it is this many standard deviations above the median of the "
        "last ones (robust: 1.4826 times the median absolute deviation).",
    )
    window: int = Field(
        default=50, ge=3, description="How many of the last losses are compared with; no spike before that."
    )
    snapshot_every: int = Field(
        default=10,
        gt=0,
        description="Steps between the snapshots in memory that are rolled back to (12 bytes per trained "
        "weight with AdamW, in every process; twice that where one is written to the disk at the same time. "
        "Sharded weights, FSDP2: of each process's shards).",
    )
    most: int = Field(default=10, ge=0, description="Skips and roll-backs of a run; one more stops it.")

    @property
    def rolls_back(self) -> bool:
        """Return True if snapshots are needed."""
        return "roll-back" in (self.not_finite, self.spike)

    def find(self, loss_nats: float, gradient_norm: float, losses: Sequence[float]) -> Anomaly | None:
        """Return the anomaly of a batch, or None where nothing is to be done.

        Args:
            losses: losses of the last batches that were trained on, in nats.
        """
        if not (math.isfinite(loss_nats) and math.isfinite(gradient_norm)):
            return Anomaly("not finite", self.not_finite, loss_nats, gradient_norm)
        recent = losses[-self.window :]
        if self.spike != "ignore" and len(recent) == self.window and loss_nats > self.limit(recent):
            return Anomaly("spike", self.spike, loss_nats, gradient_norm, self.limit(recent))
        return None

    def limit(self, losses: Sequence[float]) -> float:
        """Return the largest loss that is no spike: median + threshold · 1.4826 · median |loss - median|."""
        median = statistics.median(losses)
        deviation = statistics.median(abs(loss - median) for loss in losses)
        return median + self.spike_threshold * _SIGMAS_PER_DEVIATION * deviation


@dataclass(frozen=True)
class Anomaly:
    """A batch that is not trained on.

    Attributes:
        limit: largest loss that would not have been a spike.
    """

    kind: Literal["not finite", "spike"]
    action: Action
    loss_nats: float
    grad_norm: float
    limit: float | None = None

    def __str__(self) -> str:
        if self.kind == "spike":
            return f"the loss is {self.loss_nats:.4g}, a spike above {self.limit:.4g}"
        return f"the loss is {self.loss_nats:g} and the gradient norm {self.grad_norm:g}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data; numbers that are not finite are null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


class AnomalyHandler(TrainingFeature):
    """The detection of anomalies and the action on them.

    The loop calls `find` and `handle` itself, since they decide whether a step's gradient is applied.
    """

    def __init__(self, config: Anomalies) -> None:
        self._config = config
        self._file: Path | None = None

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        return cls(config.anomalies)

    def on_start(self, run: Run) -> None:
        self._file = run.work / "anomalies.jsonl" if run.processes.is_main else None

    def find(self, gradient: Gradient, state: State) -> Anomaly | None:
        """Return the anomaly of a batch by its gradient, or None; remember the loss of a sound batch."""
        anomaly = self._config.find(gradient.loss_nats, gradient.norm, state.losses)
        if anomaly is None:
            state.losses = [*state.losses, gradient.loss_nats][-self._config.window :]
        return anomaly

    def handle(self, run: Run, anomaly: Anomaly, batch: Sequence[PackedSequence]) -> None:
        """Leave a batch out, roll back if the settings ask for it, and record it.

        Raises:
            StageFailed: the settings stop the run, or it has had too many anomalies.
        """
        state, most = run.state, self._config.most
        step = state.step + 1
        event = {"step": step, **anomaly.as_json()}
        stops = anomaly.action == "stop" or len(state.anomalies) == most
        if anomaly.action == "roll-back" and not stops:
            event["back_to"] = run.feature(CheckpointManager).roll_back()
        if self._file:
            write_lines(self._file, [*state.anomalies, event])
        if stops:
            after = f", after {most} skips and roll-backs" if anomaly.action != "stop" else ""
            raise StageFailed(
                f"{anomaly} at step {step}{after}",
                hint="Lower the peak learning rate, warm up longer, train in float32 (precision: fp32), or "
                "let `anomalies` skip such batches.",
            )
        state.drop(batch)
        state.anomalies.append(event)
        done = f"back to step {event['back_to']}" if "back_to" in event else "its gradient is dropped"
        run.progress.message(f"step {step}: {anomaly}; {done}")
