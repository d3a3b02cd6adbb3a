"""What to do when a loss is not finite, or jumps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["ignore", "skip", "roll-back", "stop"]

_SIGMAS_PER_DEVIATION = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""


class Anomalies(BaseModel):
    """What to do about losses that are not finite, and about spikes.

    skip: the batch's gradient is dropped. roll-back: so are all steps since the last snapshot in memory, and
    training goes on behind the batch. Batches that are dropped are not gone through again, and the ledger
    counts them as skipped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_finite: Literal["stop", "skip", "roll-back"] = Field(
        default="stop", description="What to do when a batch's loss or gradient is NaN or infinite."
    )
    spike: Action = Field(default="ignore", description="What to do when a batch's loss is a spike.")
    spike_threshold: float = Field(
        default=8.0,
        gt=0,
        description="A loss is a spike if it lies this many standard deviations above the median of the "
        "last ones (robust: 1.4826 times the median absolute deviation).",
    )
    window: int = Field(
        default=50, ge=3, description="How many of the last losses are compared with; no spike before that."
    )
    snapshot_every: int = Field(
        default=10,
        gt=0,
        description="Steps between the snapshots in memory that are rolled back to (12 bytes per trained "
        "weight with AdamW, in every process; in the main one twice that while one is written to the disk).",
    )
    most: int = Field(default=10, ge=0, description="Skips and roll-backs of a run; one more stops it.")

    @property
    def rolls_back(self) -> bool:
        """Whether snapshots are needed."""
        return "roll-back" in (self.not_finite, self.spike)

    def find(self, loss_nats: float, gradient_norm: float, losses: Sequence[float]) -> Anomaly | None:
        """The anomaly of a batch, if it has one that is to be acted on.

        Args:
            losses: of the last batches that were trained on.
        """
        if not (math.isfinite(loss_nats) and math.isfinite(gradient_norm)):
            return Anomaly("not finite", self.not_finite, loss_nats, gradient_norm)
        recent = losses[-self.window :]
        if self.spike != "ignore" and len(recent) == self.window and loss_nats > self.limit(recent):
            return Anomaly("spike", self.spike, loss_nats, gradient_norm, self.limit(recent))
        return None

    def limit(self, losses: Sequence[float]) -> float:
        """The loss above which there is a spike: median + threshold · 1.4826 · median |loss - median|."""
        median = statistics.median(losses)
        deviation = statistics.median(abs(loss - median) for loss in losses)
        return median + self.spike_threshold * _SIGMAS_PER_DEVIATION * deviation


@dataclass(frozen=True)
class Anomaly:
    """A batch that is not trained on. `limit`: of a spike, the largest loss that would have been none."""

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
        """Plain data; numbers that are not finite are null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
