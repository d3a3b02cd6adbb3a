"""Record trials in a log, and choose among them: the Pareto front, its knee, the best within limits.

A trial dominates another if it is better on one figure and not worse on the other, both beyond the noise of
the paired difference. Trials that nothing dominates are the Pareto front.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from cpt.errors import CannotMerge, DamagedFile
from cpt.json_file import parse_rows
from cpt.monitor.noise import bound


class Measurement(Protocol):
    """A measurement of a model, item by item; less is better."""

    @property
    def count(self) -> int | None:
        """Number of items; None where the figure is exact."""

    def rise_over(self, before: Self) -> tuple[float, float]:
        """Return the increase over another measurement of the same items, and the standard error of that
        paired difference (NaN: not known)."""

    def as_json(self) -> Mapping[str, Any]: ...


Readings = Mapping[str, Any]
"""A `Measurement` by the name of the measured quantity."""


@dataclass(frozen=True)
class Change:
    """The increase of a measurement; less than 0 is better.

    Attributes:
        value: Increase, in the unit of the measurement.
        error: Standard error of the paired difference; NaN: not known.
        items: Number of documents or questions that it is estimated from; None: it is exact.
    """

    value: float
    error: float
    items: int | None = None

    @property
    def known(self) -> bool:
        """True if the noise is known."""
        return not math.isnan(self.error)

    @property
    def known_error(self) -> float:
        """Standard error; 0 where it is not known, so that the figure counts as exact."""
        return self.error if self.known else 0.0

    @property
    def upper(self) -> float:
        """Upper bound with 95% confidence, by Student's t over the items."""
        return self.value + self._margin

    @property
    def lower(self) -> float:
        """Lower bound with 95% confidence."""
        return self.value - self._margin

    @property
    def is_worse(self) -> bool:
        """True if the increase is beyond noise."""
        return self.lower > 0

    @property
    def _margin(self) -> float:
        return bound(self.items) * self.known_error if self.known_error else 0.0

    def as_json(self) -> dict[str, float | None]:
        return {"change": self.value, "error": None if math.isnan(self.error) else self.error}


@dataclass(frozen=True, eq=False)
class Trial:
    """A point of the search space and its measurements.

    Attributes:
        values: Value of each dimension of the space.
        by: Method that proposed the point: "grid", "line search", "bayesian" or "spread".
        changes: Changes from the base by the name of the measured quantity.
        readings: Measurements themselves, so that two trials can be compared in pairs.
    """

    values: tuple[float, ...]
    by: str
    changes: Mapping[str, Change]
    readings: Readings

    def change_from(self, other: Trial, name: str) -> Change:
        """Return the change from another trial, on the same items."""
        return change(self.readings[name], other.readings[name])


def change(after: Any, before: Any) -> Change:
    """Return the change from one measurement to another."""
    value, error = after.rise_over(before)
    return Change(value, error, after.count)


class Log:
    """A log of JSON lines: the search, the base's measurements, then every trial."""

    def __init__(self, file: Path, key: Mapping[str, Any], restore: Callable[[Mapping[str, Any]], Any]):
        """Open a log.

        Args:
            file: File of the log; it need not exist.
            key: Identity of the search; a log of another search is not continued.
            restore: Returns a measurement from its JSON data.
        """
        self._file, self._key = file, json.loads(json.dumps(key))
        self._restore = restore

    def read(self) -> tuple[Readings | None, list[Trial]]:
        """Return the base's measurements and the trials so far; cut off half a line that a kill left.

        Raises:
            CannotMerge: The log is of another search, or damaged.
        """
        lines = self._whole_lines()
        if not lines:
            return None, []
        if lines[0].get("search") != self._key:
            logged = lines[0].get("search")
            logged = logged if isinstance(logged, Mapping) else {}
            different = [key for key in self._key if logged.get(key) != self._key[key]]
            raise CannotMerge(
                [f"{self._file} is the log of another search: {', '.join(different)} differ"],
                hint="Remove it to search anew, or write to another place.",
            )
        try:
            base = self._readings(lines[1]) if len(lines) > 1 else None
            return base, [self._tried(line, base) for line in lines[2:]]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CannotMerge([f"{self._file} is no log of a search: {error}"]) from error

    def begin(self, base: Readings) -> None:
        """Start the log with the base's measurements."""
        data = {name: reading.as_json() for name, reading in base.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in ({"search": self._key}, {"readings": data}))
        self._file.write_text(text, encoding="utf-8")

    def add(self, tried: Trial) -> None:
        """Append a trial."""
        line = {
            "values": list(tried.values),
            "by": tried.by,
            "changes": {name: each.as_json() for name, each in tried.changes.items()},
            "readings": {name: reading.as_json() for name, reading in tried.readings.items()},
        }
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def _whole_lines(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.write_bytes(whole)
        try:
            return parse_rows(whole, dict[str, Any], self._file)
        except DamagedFile as error:
            raise CannotMerge([f"{self._file} is no log of a search: {error.message}"]) from error

    def _readings(self, line: Mapping[str, Any]) -> Readings:
        return {name: self._restore(data) for name, data in line["readings"].items()}

    def _tried(self, line: Mapping[str, Any], base: Readings | None) -> Trial:
        assert base is not None
        readings = self._readings(line)
        return Trial(tuple(line["values"]), line["by"], changes_since(base, readings), readings)


def changes_since(base: Readings, readings: Readings) -> dict[str, Change]:
    """Return the changes from the base by the name of the measured quantity."""
    return {name: change(reading, base[name]) for name, reading in readings.items()}


@dataclass(frozen=True)
class Limit:
    """Largest increase over the base, with 95% confidence by the paired difference's bound."""

    name: str
    most: float


@dataclass(frozen=True)
class Goal:
    """The goal of a search.

    Attributes:
        gain: Name of the measurement to improve.
        rise: Name of the measurement that must not become worse.
        limits: Limits that must hold; without any, the knee of the front is chosen.
    """

    gain: str = "domain"
    rise: str = "general"
    limits: tuple[Limit, ...] = ()

    def gain_of(self, tried: Trial) -> float:
        """Return the improvement over the base."""
        return -tried.changes[self.gain].value

    def rise_of(self, tried: Trial) -> float:
        """Return the increase over the base."""
        return tried.changes[self.rise].value

    def excess(self, tried: Trial) -> float:
        """Return the largest excess over a limit, at the upper bound."""
        return max((tried.changes[limit.name].upper - limit.most for limit in self.limits), default=0.0)

    def holds(self, tried: Trial) -> bool:
        """Return True if every limit is shown to hold: the upper bound is known and within the limit."""
        known = all(tried.changes[limit.name].known for limit in self.limits)
        return known and self.excess(tried) <= 0


@dataclass(frozen=True)
class Choice:
    """The chosen trial.

    Attributes:
        trial: Chosen trial.
        holds: True if all limits are shown to hold; otherwise the trial is the nearest to that.
        why: Reason for the choice, in words.
    """

    trial: Trial
    holds: bool
    why: str


def choose(tried: Sequence[Trial], goal: Goal) -> Choice:
    """Choose the largest gain within the limits; without limits the knee of the front."""
    if not goal.limits:
        return Choice(knee(tried, goal), True, "the knee of the front")
    holding = [each for each in tried if goal.holds(each)]
    if holding:
        best = max(holding, key=lambda each: (goal.gain_of(each), -goal.rise_of(each)))
        return Choice(best, True, "the largest gain that keeps the limit")
    least = min(tried, key=lambda each: (goal.excess(each), -goal.gain_of(each)))
    return Choice(least, False, "no point is shown to keep the limit: the one that comes nearest to it")


def pareto_front(tried: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Return the trials that no other dominates, in the order of their gain.

    Noise can close a circle of trials that dominate each other; if nothing is left, all are on the front.
    """
    left = [each for each in tried if not any(_dominates(other, each, goal) for other in tried)]
    return sorted(left or tried, key=goal.gain_of)


def _dominates(one: Trial, other: Trial, goal: Goal) -> bool:
    if one is other:
        return False
    better = [other.change_from(one, name).is_worse for name in (goal.gain, goal.rise)]
    worse = [one.change_from(other, name).is_worse for name in (goal.gain, goal.rise)]
    return any(better) and not any(worse)


def knee(tried: Sequence[Trial], goal: Goal) -> Trial:
    """Return the knee of the front: the trial farthest from the chord between base and largest gain.

    Gain and rise are shares of those at the largest gain (Das 1999, On characterizing the "knee" of the
    Pareto curve); rises within their noise count as zero. Where nothing rises, the knee is the largest gain.
    """
    points = pareto_front(tried, goal)
    farthest = max(points, key=goal.gain_of)
    most_gain, most_rise = goal.gain_of(farthest), _rise(farthest, goal)
    if most_gain <= 0 or most_rise <= 0:
        return farthest
    return max(points, key=lambda each: goal.gain_of(each) / most_gain - _rise(each, goal) / most_rise)


def _rise(tried: Trial, goal: Goal) -> float:
    change = tried.changes[goal.rise]
    return change.value if change.is_worse else 0.0
