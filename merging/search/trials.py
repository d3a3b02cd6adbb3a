"""Points that were tried, what was measured there, and the log that keeps them.

Which of the points that were tried are worth choosing from, and which one is chosen.

A point beats another when it is better on one figure and not worse on the other, both beyond the noise of
the paired difference. Points that nothing beats are the front (Pareto).
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
    """What was measured of a model, item by item; less is better."""

    @property
    def count(self) -> int | None:
        """Number of items; None where nothing is estimated from them."""

    def rise_over(self, before: Self) -> tuple[float, float]:
        """By how much it is worse than another measurement of the same items, and the standard error of
        that paired difference (NaN: not known)."""

    def as_json(self) -> Mapping[str, Any]: ...


Readings = Mapping[str, Any]
"""A `Measurement` by the name of what was measured."""


@dataclass(frozen=True)
class Change:
    """How much worse a model has become, in the unit of what was measured; less than 0 is better.

    Attributes:
        error: standard error of the paired difference; NaN: not known.
        items: number of documents or questions that it is estimated from; None: it is exact.
    """

    value: float
    error: float
    items: int | None = None

    @property
    def known(self) -> bool:
        """Whether the noise is known."""
        return not math.isnan(self.error)

    @property
    def known_error(self) -> float:
        """The standard error; 0 where it is not known: the figure counts as it is."""
        return self.error if self.known else 0.0

    @property
    def upper(self) -> float:
        """What it is below with a chance of 95%, by Student's t over the items."""
        return self.value + self._margin

    @property
    def lower(self) -> float:
        """What it is above with a chance of 95%."""
        return self.value - self._margin

    @property
    def is_worse(self) -> bool:
        """Whether it is worse beyond noise."""
        return self.lower > 0

    @property
    def _margin(self) -> float:
        return bound(self.items) * self.known_error if self.known_error else 0.0

    def as_json(self) -> dict[str, float | None]:
        return {"change": self.value, "error": None if math.isnan(self.error) else self.error}


@dataclass(frozen=True, eq=False)
class Trial:
    """A point and its measurements.

    Attributes:
        values: one for each dimension of the space.
        by: what proposed it: "grid", "line search", "bayesian" or "spread".
        changes: since the base, by what was measured.
        readings: the measurements themselves, so that two points can be compared in pairs.
    """

    values: tuple[float, ...]
    by: str
    changes: Mapping[str, Change]
    readings: Readings

    def change_from(self, other: Trial, name: str) -> Change:
        """How much worse it is than another point, on the same items."""
        return change(self.readings[name], other.readings[name])


def change(after: Any, before: Any) -> Change:
    """How much worse one measurement is than another."""
    value, error = after.rise_over(before)
    return Change(value, error, after.count)


class Log:
    """JSON lines: what is searched, the base's measurements, then every point as it comes."""

    def __init__(self, file: Path, key: Mapping[str, Any], restore: Callable[[Mapping[str, Any]], Any]):
        """Args:
        key: what makes this search what it is; a log of another one is not continued.
        restore: makes a measurement of its JSON data.
        """
        self._file, self._key = file, json.loads(json.dumps(key))
        self._restore = restore

    def read(self) -> tuple[Readings | None, list[Trial]]:
        """The base's measurements and the points so far; half a line at the end, of a kill, is cut off.

        Raises:
            CannotMerge: the log is of another search, or damaged.
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
        """Start the log with what the base measures."""
        data = {name: reading.as_json() for name, reading in base.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in ({"search": self._key}, {"readings": data}))
        self._file.write_text(text, encoding="utf-8")

    def add(self, tried: Trial) -> None:
        """Write a point, to the disk."""
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
    """Changes since the base by what was measured."""
    return {name: change(reading, base[name]) for name, reading in readings.items()}


@dataclass(frozen=True)
class Limit:
    """How much worse than the base something may become: 95% sure, by the paired difference's bound."""

    name: str
    most: float


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        gain: name of the measurement that is to become better.
        rise: name of the one that must not become worse.
        limits: budgets that must hold; without any, the knee of the front is chosen.
    """

    gain: str = "domain"
    rise: str = "general"
    limits: tuple[Limit, ...] = ()

    def gain_of(self, tried: Trial) -> float:
        """How much better than the base."""
        return -tried.changes[self.gain].value

    def rise_of(self, tried: Trial) -> float:
        """How much worse than the base."""
        return tried.changes[self.rise].value

    def excess(self, tried: Trial) -> float:
        """By how much the budget that is exceeded most is exceeded, at the upper bound."""
        return max((tried.changes[limit.name].upper - limit.most for limit in self.limits), default=0.0)

    def holds(self, tried: Trial) -> bool:
        """Whether every budget is shown to hold: the upper bound is known, and within the limit."""
        known = all(tried.changes[limit.name].known for limit in self.limits)
        return known and self.excess(tried) <= 0


@dataclass(frozen=True)
class Choice:
    """The point that is chosen, and why.

    Attributes:
        holds: whether all budgets are shown to hold there; if not, it is the one that comes nearest to it.
    """

    tried: Trial
    holds: bool
    why: str


def choose(tried: Sequence[Trial], goal: Goal) -> Choice:
    """With budgets the largest gain that keeps them, else the knee of the front."""
    if not goal.limits:
        return Choice(knee(tried, goal), True, "the knee of the front")
    holding = [each for each in tried if goal.holds(each)]
    if holding:
        best = max(holding, key=lambda each: (goal.gain_of(each), -goal.rise_of(each)))
        return Choice(best, True, "the largest gain that keeps the budget")
    least = min(tried, key=lambda each: (goal.excess(each), -goal.gain_of(each)))
    return Choice(least, False, "no point is shown to keep the budget: the one that comes nearest to it")


def pareto_front(tried: Sequence[Trial], goal: Goal) -> list[Trial]:
    """The points that no other beats, in the order of their gain.

    Noise can close a circle of points that beat each other; if nothing were left, all are on the front.
    """
    left = [each for each in tried if not any(_beats(other, each, goal) for other in tried)]
    return sorted(left or tried, key=goal.gain_of)


def _beats(one: Trial, other: Trial, goal: Goal) -> bool:
    if one is other:
        return False
    better = [other.change_from(one, name).is_worse for name in (goal.gain, goal.rise)]
    worse = [one.change_from(other, name).is_worse for name in (goal.gain, goal.rise)]
    return any(better) and not any(worse)


def knee(tried: Sequence[Trial], goal: Goal) -> Trial:
    """Where the front bends: the point farthest from the chord between base and largest gain.

    Gain and rise are taken as shares of those at the largest gain (Das 1999, On characterizing the "knee" of
    the Pareto curve); rises within their noise count as none. Where nothing rises, that is the largest gain.
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
