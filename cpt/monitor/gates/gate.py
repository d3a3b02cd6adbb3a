"""Gates: a budget each, and what is done when it is at risk or broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cpt.monitor.gates.budget import BudgetText
from cpt.sources import DOMAIN

"""The probe whose fall is the gain."""

HALF = 0.5
"""Largest share of replay text, and the factor of a lower rate, unless a gate says otherwise."""


class GateConfig(BaseModel):
    """Bound one probe, and name what is done when the bound is exceeded.

    At the end of the run a broken budget gives exit code 3, one that is not shown to be held gives exit
    code 4. The result is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: BudgetText = Field(
        description="What a probe must keep to: `general <= +0.02` (bits per byte above the start), "
        "`piqa >= -1 point` (accuracy), `general recovers within 20%` (of the run's tokens)."
    )
    action: str

    @property
    def goes_back(self) -> bool:
        """Whether the weights may become those of an earlier point, which are kept for that."""
        return self.action in ("stop", "roll-back")


class Warn(GateConfig):
    """Say so, and nothing else: not even the exit code changes."""

    action: Literal["warn"] = "warn"


class RaiseReplay(GateConfig):
    """Raise the share of replay text, and lower it again when there is clear slack."""

    action: Literal["raise-replay"]
    most: float = Field(default=HALF, gt=0, lt=1, description="Largest share of a batch that is replay text.")
    least: float | None = Field(
        default=None, ge=0, lt=1, description="Smallest share; default: the recipe's `replay`."
    )


class LowerRate(GateConfig):
    """Lower the learning rate, for the rest of the run."""

    action: Literal["lower-rate"]
    factor: float = Field(default=HALF, gt=0, lt=1, description="By which the rate is multiplied each time.")
    least: float = Field(
        default=0.1, gt=0, lt=1, description="Smallest multiple of the schedule's rate that it comes to."
    )


def percent(value: Any) -> Any:
    """A share written as "5%"."""
    if not isinstance(value, str) or not value.strip().endswith("%"):
        return value
    try:
        return float(value.strip()[:-1]) / 100
    except ValueError:
        return value


class _Patient(GateConfig):
    """An action that a stability gap, which passes, must not set off."""

    after: Annotated[float, BeforeValidator(percent)] = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the run (0.2 or 20%) before which nothing is done: a rise may be a gap that "
        "closes again.",
    )


class Stop(_Patient):
    """End the run; its result is the point with the most domain gain of those whose readings show them within
    the budgets of all gates that act, or else the start."""

    action: Literal["stop"]

    @model_validator(mode="before")
    @classmethod
    def _no_trade_off(cls, value: Any) -> Any:
        if isinstance(value, dict) and "trade_off" in value:
            raise ValueError(
                "`trade_off` is no longer a setting: the result is the best point within the budget"
            )
        return value


class RollBack(_Patient):
    """Go back to the last point that was read within the budget, and go on from there more carefully."""

    action: Literal["roll-back"]
    times: int = Field(default=2, gt=0, description="How often at most.")
    then: Literal["lower-rate", "raise-replay"] = Field(
        default="lower-rate", description="What is changed before training goes on."
    )
    factor: float | None = Field(
        default=None, gt=0, lt=1, description="By which the rate is multiplied; default 0.5 (lower-rate)."
    )
    most: float | None = Field(
        default=None, gt=0, lt=1, description="Largest share of replay text; default 0.5 (raise-replay)."
    )

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        unused = "most" if self.then == "lower-rate" else "factor"
        if getattr(self, unused) is not None:
            raise ValueError(f"`{unused}` has no effect with then: {self.then}")
        return self


class Fail(_Patient):
    """End the run with exit code 3; what was trained is kept."""

    action: Literal["fail"]


Gate = Annotated[Warn | RaiseReplay | LowerRate | Stop | RollBack | Fail, Field(discriminator="action")]


def acted_upon(gates: Iterable[Gate]) -> frozenset[str]:
    """Probes on which something depends: an action that is more than a warning, or what `stop` weighs."""
    acting = [gate for gate in gates if not isinstance(gate, Warn)]
    weighed = [DOMAIN for gate in acting if isinstance(gate, Stop)]
    return frozenset([*(gate.budget.probe for gate in acting), *weighed])
