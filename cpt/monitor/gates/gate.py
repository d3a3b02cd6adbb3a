"""Gates: one limit on forgetting each, and the action that follows when it is at risk or broken.

A limit states how much worse a probe may get, or by when it must recover:

general <= +0.02             bits per byte above the start
piqa >= -1 point             accuracy of a task or its p_gold, in percentage points
drift <= 0.1                 nats per token from the base
early-end <= 0.0001          probability above the start
general recovers within 20%  of the run's tokens
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from cpt.monitor.reading import HIGHER_IS_BETTER, Kind, Unit
from cpt.sources import DOMAIN

UNITS: Mapping[Kind, Unit] = {
    "text": "bits per byte",
    "task": "accuracy",
    "drift": "nats per token",
    "early-end": "probability",
    "weights": "relative update",
    "new-tokens": "norm ratio",
}
"""Unit of each kind of probe."""

_PROBE = r"(?P<probe>[A-Za-z0-9][\w.\-]*)"
_NUMBER = r"(?P<number>[+\-\u2212]?(?:\d+\.?\d*|\.\d+)(?:e[+\-]?\d+)?)"
_UNIT = r"(?P<unit>bits? per byte|bpb|nats? per token|points?|pp)?"
_CHANGE = re.compile(rf"{_PROBE}\s*(?P<sign><=|>=|≤|≥)\s*{_NUMBER}\s*{_UNIT}", re.IGNORECASE)
_RECOVERY = re.compile(rf"{_PROBE}\s+recovers?\s+within\s+{_NUMBER}\s*%", re.IGNORECASE)
_EXAMPLES = "`general <= +0.02`, `piqa >= -1 point` or `general recovers within 20%`"


@dataclass(frozen=True)
class Limit:
    """A bound on one probe.

    Attributes:
        text: The limit as written, which is its name.
        probe: Name of the probe.
        allowed: Largest deterioration since before training, at least 0, in the probe's unit (accuracy:
            shares of 1); of a recovery, the share of the run's tokens after which the probe must be back.
        falls: True if less is worse, as of an accuracy.
        recovery: True if the limit bounds the time of a recovery.
        unit: Unit in the text, if it names one.
    """

    text: str
    probe: str
    allowed: float
    falls: bool = False
    recovery: bool = False
    unit: Unit | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse a limit.

        Raises:
            ValueError: The text states no limit; the message shows how limits are written.
        """
        text = " ".join(text.split())
        if found := _RECOVERY.fullmatch(text):
            return cls(text, found["probe"], _share(found["number"]), recovery=True)
        if found := _CHANGE.fullmatch(text):
            return _bounded_change(text, found)
        raise ValueError(f"`{text}` states no limit: write it like {_EXAMPLES}")

    def misfit(self, kind: Kind) -> str | None:
        """Return why the limit does not fit a kind of probe, or None if it does."""
        if self.recovery:
            lasting = kind not in ("text", "task")
            if kind == "early-end":
                return f"whether {self.probe} comes back is not followed: bound its rise"
            return f"{self.probe} only grows: it never comes back to where it was" if lasting else None
        unit = UNITS[kind]
        falls = unit in HIGHER_IS_BETTER
        if falls and not self.falls:
            return f"{self.probe} is a task, of which more is better: `{self.probe} >= -1 point`"
        if self.falls and not falls:
            return f"{self.probe} is measured in {unit}, of which less is better: `{self.probe} <= +0.02`"
        if self.unit not in (None, unit):
            return f"{self.probe} is measured in {unit}, not in {self.unit}"
        return None


def _bounded_change(text: str, found: re.Match[str]) -> Limit:
    number = _number(found["number"])
    falls = found["sign"] in (">=", "≥")
    unit = _unit(found["unit"])
    points = unit == "accuracy"
    if falls and not points:
        raise ValueError(f"`{text}`: accuracies are bounded in percentage points, like `>= -1 point`")
    if points and not falls:
        raise ValueError(f"`{text}`: points are of accuracy, which must not fall: `>= -1 point`")
    if (number > 0) if falls else (number < 0):
        change = "fall" if falls else "rise"
        raise ValueError(f"`{text}` asks for an improvement; a limit says how far a probe may {change}")
    return Limit(text, found["probe"], abs(number) / 100 if points else abs(number), falls=falls, unit=unit)


def _unit(written: str | None) -> Unit | None:
    if written is None:
        return None
    if written.lower().startswith("p"):
        return "accuracy"
    return "nats per token" if written.lower().startswith("nat") else "bits per byte"


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-"))  # a minus sign, as typesetters write it


def _share(number: str) -> float:
    share = _number(number) / 100
    if not 0 < share < 1:
        raise ValueError(f"a probe recovers within more than 0% and less than 100%, not {number}%")
    return share


def _from_text(value: Any) -> Any:
    if isinstance(value, str):
        return Limit.parse(value)
    if isinstance(value, Limit):
        return value
    raise ValueError(f"a limit is a text like {_EXAMPLES}")


LimitText = Annotated[Limit, BeforeValidator(_from_text), PlainSerializer(str, return_type=str)]
"""A limit as a setting, written as text."""


HALF = 0.5
"""Default of the largest share of replay text, and of the factor of a lower rate."""


RENAMED: Mapping[str, str] = {"budget": "limit"}
"""Former key of a gate -> its name."""


class GateConfig(BaseModel):
    """Set a limit on one probe, and name the action when it is exceeded.

    At the end of the run a broken limit gives exit code 3, one that is not shown to be held gives exit
    code 4. The result is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed_keys: ClassVar[Mapping[str, str]] = RENAMED

    limit: LimitText = Field(
        description="Limit on a probe: `general <= +0.02` (bits per byte above the start), "
        "`piqa >= -1 point` (accuracy), `general recovers within 20%` (of the run's tokens)."
    )
    action: str

    @property
    def consequence(self) -> str:
        """The action in a few words."""
        return self.action

    @property
    def goes_back(self) -> bool:
        """Return True if the action may restore the weights of an earlier point."""
        return self.action in ("stop", "roll-back")


class Warn(GateConfig):
    """Print a warning, and nothing else: not even the exit code changes."""

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
    factor: float = Field(
        default=HALF, gt=0, lt=1, description="Factor by which the rate is multiplied each time."
    )
    least: float = Field(default=0.1, gt=0, lt=1, description="Smallest multiple of the schedule's rate.")


def percent(value: Any) -> Any:
    """Parse a share written as "5%"."""
    if not isinstance(value, str) or not value.strip().endswith("%"):
        return value
    try:
        return float(value.strip()[:-1]) / 100
    except ValueError:
        return value


class _Patient(GateConfig):
    """An action that a passing stability gap must not trigger."""

    after: Annotated[float, BeforeValidator(percent)] = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the run (0.2 or 20%) before which the gate does not act: a rise may be a gap "
        "that closes again.",
    )


class Stop(_Patient):
    """End the run. Its result is the point with the most gain that its readings show to be within the limits
    of all acting gates, or else the start.
    """

    action: Literal["stop"]
    by: str = Field(
        default=DOMAIN,
        description="Probe whose gain chooses the point: `domain`, or a task that is measured by p_gold. By "
        "a task the result is also chosen where the run reaches its end.",
    )
    patience: int | None = Field(
        default=None,
        gt=0,
        description="End the run after so many readings of the task in `by` in a row without a better point; "
        "null: only the limit ends it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_trade_off(cls, value: Any) -> Any:
        if isinstance(value, dict) and "trade_off" in value:
            raise ValueError(
                "`trade_off` is no longer a setting: the result is the best point within the limit"
            )
        return value

    @property
    def chooses_at_end(self) -> bool:
        """True if the result is the best point also where the run reaches its end."""
        return self.by != DOMAIN

    @property
    def consequence(self) -> str:
        """See `GateConfig`."""
        return f"stop, the best point by {self.by}" if self.chooses_at_end else self.action


class RollBack(_Patient):
    """Restore the last point that was read within the limit, and continue from there more carefully."""

    action: Literal["roll-back"]
    times: int = Field(default=2, gt=0, description="Largest number of roll-backs.")
    then: Literal["lower-rate", "raise-replay"] = Field(
        default="lower-rate", description="Change before training continues."
    )
    factor: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Factor by which the rate is multiplied; default 0.5 (lower-rate).",
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
    """End the run with exit code 3; the trained model is kept."""

    action: Literal["fail"]


Gate = Annotated[Warn | RaiseReplay | LowerRate | Stop | RollBack | Fail, Field(discriminator="action")]


def acted_upon(gates: Iterable[Gate]) -> frozenset[str]:
    """Return the names of probes that decide an action beyond a warning, or the result of `stop`."""
    acting = [gate for gate in gates if not isinstance(gate, Warn)]
    weighed = [gate.by for gate in acting if isinstance(gate, Stop)]
    return frozenset([*(gate.limit.probe for gate in acting), *weighed])
