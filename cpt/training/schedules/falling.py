"""Schedules of one curve after a warm-up: they stay at the peak, or fall from it until the run ends."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cpt.training.schedules.base import ScheduleConfig, require_order
from cpt.training.schedules.curves import FALLS, cosine
from cpt.training.schedules.phases import Part, Phase, lay_out, warm_up


class _Warmed(ScheduleConfig):
    """Warms up to a peak."""

    peak: float = Field(
        default=1e-4,
        gt=0,
        description="Highest learning rate. The default suits runs of millions of tokens; with tens of "
        "thousands, 3e-4 learns more (docs/benchmarks.md).",
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the run spent warming up.")

    @property
    def highest(self) -> float:
        return self.peak


class Constant(_Warmed):
    """Warm up to the peak and stay there."""

    kind: Literal["constant"] = "constant"

    def phases(self, total: int) -> tuple[Phase, ...]:
        return lay_out(total, warm_up(self.warmup, self.peak), Part("constant", 1.0, lambda _: self.peak))


class _Falling(_Warmed):
    """Warms up to the peak, then falls to the floor."""

    fall: ClassVar[str]

    floor: float = Field(default=0.0, ge=0, description="Learning rate of the last step.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_order(floor=self.floor, peak=self.peak)
        return self

    def phases(self, total: int) -> tuple[Phase, ...]:
        curve = FALLS[self.fall]
        falling = Part(self.fall, 1.0, lambda t: curve(t, self.peak, self.floor))
        return lay_out(total, warm_up(self.warmup, self.peak), falling)


class Linear(_Falling):
    """Warm up to the peak, fall to the floor in a straight line."""

    fall = "linear"
    kind: Literal["linear"] = "linear"


class Cosine(_Falling):
    """Warm up to the peak, fall to the floor along a cosine; as in pretraining, to zero by default."""

    fall = "cosine"
    kind: Literal["cosine"] = "cosine"


class RewarmCosine(_Falling):
    """Re-warm to the peak, re-decay along a cosine to a floor (Ibrahim et al., arXiv 2403.08763)."""

    fall = "cosine"
    kind: Literal["rewarm-cosine"] = "rewarm-cosine"
    floor: float = Field(default=1e-5, ge=0, description="Learning rate of the last step.")


class Rex(_Falling):
    """Warm up to the peak, fall slowly at first and fast at the end (Chen et al., arXiv 2107.04197)."""

    fall = "rex"
    kind: Literal["rex"] = "rex"


class Reuse(ScheduleConfig):
    """Go on at the rate where the base's training ended, without warm-up, and fall along a cosine.

    "Reuse, don't retrain" (Parmar et al., arXiv 2407.07263).
    """

    kind: Literal["reuse"] = "reuse"
    start: float = Field(gt=0, description="Learning rate at which the base's training ended.")
    min_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Rate of the last step, as a share of the first step's."
    )

    @property
    def highest(self) -> float:
        return self.start

    def phases(self, total: int) -> tuple[Phase, ...]:
        end = self.min_ratio * self.start
        return lay_out(total, Part("cosine", 1.0, lambda t: cosine(t, self.start, end)))
