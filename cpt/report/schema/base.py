"""What every part of the facts is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Base of every part of the facts: frozen, and tolerant of figures that a later stage adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(Fact):
    """A figure with its confidence interval; the bounds are None where nothing is known of the noise."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.low is not None and self.high is not None

    @property
    def is_noise(self) -> bool:
        """Whether the interval includes zero: a difference that cannot be told from none."""
        return self.low is not None and self.high is not None and self.low <= 0.0 <= self.high
