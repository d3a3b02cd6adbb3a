"""Results of a probe: values by item, and a reading with its standard error and its change.

A value is a ratio of sums over items (documents, questions, samples): nats by bytes, right answers by
questions. Its standard error is that of a ratio estimator (Cochran 1977, Sampling Techniques, chapter 6).
A change since the first reading is measured on the same items, so its error is that of a paired difference:
the difficulty of a document is in both readings and cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["text", "task", "drift", "early-end", "weights", "new-tokens"]
TaskMeasure = Literal["accuracy", "p_gold"]
"""Measure of a task: share of right answers, or mean probability of the right choice, per byte."""

Unit = Literal[
    "bits per byte",
    "accuracy",
    "p_gold",
    "nats per token",
    "probability",
    "relative update",
    "norm ratio",
]

HIGHER_IS_BETTER: frozenset[str] = frozenset({"accuracy", "p_gold"})
"""Units in which more is better: those of tasks, shares of 1, whose changes are in percentage points."""

_NUMBERS = ("value", "standard_error", "rise", "rise_error")


@dataclass(frozen=True)
class Items:
    """Results of a probe by item, in an order that never changes.

    Attributes:
        numerators, denominators: Arrays [n]; the value is the ratio of their sums.
        detail: Further results of the probe, as JSON data.
    """

    numerators: np.ndarray
    denominators: np.ndarray
    detail: Mapping[str, Any] | None = None

    @property
    def count(self) -> int:
        """Return the number of items."""
        return len(self.numerators)

    @property
    def value(self) -> float:
        """Return Σ numerators / Σ denominators."""
        return float(self.numerators.sum() / self.denominators.sum())

    @property
    def standard_error(self) -> float:
        """Return the standard error of `value`; NaN for one item."""
        return _error(self._influence)

    def first(self, count: int) -> Items:
        """Return the first `count` items."""
        return Items(self.numerators[:count], self.denominators[:count])

    def rise_over(self, before: Items) -> tuple[float, float]:
        """Return the value minus that of an earlier reading of at least these items, and its standard error.

        The error is exact to first order in the items' influences on the two ratios; with equal denominators
        that is the ratio estimator of the differences.
        """
        same = before.first(len(self.numerators))
        return self.value - same.value, _error(self._influence - same._influence)

    @property
    def _influence(self) -> np.ndarray:
        """Return by how much each item moves the value [n]; the sum is zero."""
        return (self.numerators - self.value * self.denominators) / self.denominators.sum()

    def as_json(self) -> dict[str, list[float]]:
        """Return JSON data, without the detail."""
        return {"numerators": self.numerators.tolist(), "denominators": self.denominators.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, list[float]]) -> Items:
        """Return the object that `as_json` was called on."""
        import numpy as np  # the command line starts without numpy

        return cls(np.asarray(data["numerators"], float), np.asarray(data["denominators"], float))


def _error(influence: np.ndarray) -> float:
    count = len(influence)
    if count < 2:
        return math.nan
    return math.sqrt(count / (count - 1) * float((influence**2).sum()))


@dataclass(frozen=True)
class Reading:
    """One reading of a probe during training.

    Attributes:
        step, tokens: Numbers of steps and tokens trained before the reading.
        value, standard_error: Figures in the probe's unit; lower is better except for tasks. NaN: unknown.
        rise, rise_error: Value minus the first reading's on the same items, negative for a fall, and its
            standard error as a paired difference.
        share: Share of the probe's sample that was read.
        items: Number of documents or questions that were read, if known.
        seconds: Duration of the reading.
        detail: Further results: of weights, {"layers": [{"layer": 0, "update": …}, …], "embeddings", "head",
            "bottom_top"}; of new tokens, {"input", "output"}; of the early end, {"anywhere"}; of a task, the
            measure that is not its value.
    """

    step: int
    tokens: int
    probe: str
    kind: Kind
    unit: Unit
    value: float
    standard_error: float
    rise: float
    rise_error: float
    share: float = 1.0
    seconds: float = 0.0
    detail: Mapping[str, Any] | None = None
    items: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON data; unknown figures (an error from one item) are null."""
        data = asdict(self)
        return data | {key: None for key in _NUMBERS if not math.isfinite(data[key])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reading:
        """Return the object that `as_json` was called on."""
        return cls(**{**data, **{key: math.nan for key in _NUMBERS if data[key] is None}})
