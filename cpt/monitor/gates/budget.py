"""A budget: how much worse a probe may get, or by when it must be back.

general <= +0.02             bits per byte above the start
piqa >= -1 point             accuracy, in percentage points
drift <= 0.1                 nats per token from the base
early-end <= 0.0001          probability above the start
general recovers within 20%  of the run's tokens
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from cpt.monitor.reading import HIGHER_IS_BETTER, Kind, Unit

UNITS: Mapping[Kind, Unit] = {
    "text": "bits per byte",
    "task": "accuracy",
    "drift": "nats per token",
    "early-end": "probability",
    "weights": "relative update",
    "new-tokens": "norm ratio",
}
"""What each kind of probe is measured in."""

_PROBE = r"(?P<probe>[A-Za-z0-9][\w.\-]*)"
_NUMBER = r"(?P<number>[+\-\u2212]?(?:\d+\.?\d*|\.\d+)(?:e[+\-]?\d+)?)"
_UNIT = r"(?P<unit>bits? per byte|bpb|nats? per token|points?|pp)?"
_LIMIT = re.compile(rf"{_PROBE}\s*(?P<sign><=|>=|≤|≥)\s*{_NUMBER}\s*{_UNIT}", re.IGNORECASE)
_RECOVERY = re.compile(rf"{_PROBE}\s+recovers?\s+within\s+{_NUMBER}\s*%", re.IGNORECASE)
_EXAMPLES = "`general <= +0.02`, `piqa >= -1 point` or `general recovers within 20%`"


@dataclass(frozen=True)
class Budget:
    """What a probe must keep to.

    Attributes:
        text: as it was written, which is its name.
        limit: how much worse than before training it may be, in its unit (accuracy: shares of 1), at least
            0; of a recovery, the share of the run's tokens after which it must be back.
        falls: whether less is worse, as of an accuracy.
        unit: that it names; None where it names none.
    """

    text: str
    probe: str
    limit: float
    falls: bool = False
    recovery: bool = False
    unit: Unit | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget that a text states.

        Raises:
            ValueError: it states none; the message says how budgets are written.
        """
        text = " ".join(text.split())
        if found := _RECOVERY.fullmatch(text):
            return cls(text, found["probe"], _share(found["number"]), recovery=True)
        if found := _LIMIT.fullmatch(text):
            return _limit(text, found)
        raise ValueError(f"`{text}` states no budget: write it like {_EXAMPLES}")

    def misfit(self, kind: Kind) -> str | None:
        """Why a probe of some kind cannot be held to this; None if it can."""
        if self.recovery:
            lasting = kind not in ("text", "task")
            if kind == "early-end":
                return f"whether {self.probe} comes back is not followed: bound its rise"
            return f"{self.probe} only grows: it never comes back to where it was" if lasting else None
        unit = UNITS[kind]
        falls = unit in HIGHER_IS_BETTER
        if falls and not self.falls:
            return f"{self.probe} is an accuracy, of which more is better: `{self.probe} >= -1 point`"
        if self.falls and not falls:
            return f"{self.probe} is measured in {unit}, of which less is better: `{self.probe} <= +0.02`"
        if self.unit not in (None, unit):
            return f"{self.probe} is measured in {unit}, not in {self.unit}"
        return None


def _limit(text: str, found: re.Match[str]) -> Budget:
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
        raise ValueError(f"`{text}` asks for an improvement; a budget says how far a probe may {change}")
    return Budget(text, found["probe"], abs(number) / 100 if points else abs(number), falls=falls, unit=unit)


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
        return Budget.parse(value)
    if isinstance(value, Budget):
        return value
    raise ValueError(f"a budget is a text like {_EXAMPLES}")


BudgetText = Annotated[Budget, BeforeValidator(_from_text), PlainSerializer(str, return_type=str)]
"""A setting that holds a budget, written as text."""
