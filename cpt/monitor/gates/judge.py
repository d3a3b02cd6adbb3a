"""Whether budgets hold, told from noise: pure functions of a run's readings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cpt.monitor.gates.budget import Budget
from cpt.monitor.gates.gate import Gate
from cpt.monitor.gates.trend import UNKNOWN, Forecast, forecast
from cpt.monitor.noise import ONE_SIDED_95, SUSPICION, critical, known, looks, standard_errors
from cpt.monitor.reading import Reading
from cpt.monitor.stability import Point, stability_gap

Verdict = Literal["held", "at risk", "broken", "not measured"]

_SLACK = 0.5
"""Share of what is allowed below which there is clear slack."""


@dataclass(frozen=True)
class Judgement:
    """How a gate's budget stands.

    Attributes:
        value: change since the start, in the probe's unit, as it was read; of a recovery, the share of the
            run's tokens after which the probe was back, or has not been so far. None: not measured.
        error: standard error of `value`; None if it is not known.
        unit: of both, and of the limit.
        why: the verdict's grounds in a few words.
        worse: by how much the probe is worse than at the start.
        slack: whether it is clearly better than it must be, now and by the trend.
        ends_at: multiple of what is allowed that it comes to at the end by its trend, or without one (yet) by
            its last reading.
        suspect: whether it seems to go beyond its limit, though that may yet be noise: reason enough for what
            costs little.
        fresh: whether the probe was read at the last step at which anything was.
    """

    gate: Gate
    verdict: Verdict
    value: float | None
    error: float | None
    unit: str
    why: str
    worse: float = 0.0
    slack: bool = False
    ends_at: float = 0.0
    suspect: bool = False
    fresh: bool = True

    @property
    def budget(self) -> Budget:
        return self.gate.budget

    @property
    def limit(self) -> float:
        """What `value` must not go beyond, with its sign."""
        return -self.budget.limit if self.budget.falls else self.budget.limit

    @property
    def fails(self) -> bool:
        """Whether the run has failed if this is so at its end."""
        return self.verdict == "broken" and self.gate.action != "warn"

    def as_json(self) -> dict[str, Any]:
        """Plain data for the training's summary."""
        return {
            "budget": self.budget.text,
            "probe": self.budget.probe,
            "limit": self.limit,
            "unit": self.unit,
            "action": self.gate.action,
            "verdict": self.verdict,
            "value": self.value,
            "error": self.error,
            "why": self.why,
        }


def judge(
    gates: Sequence[Gate],
    readings: Iterable[Reading],
    progress: float,
    tolerance: float = 0.001,
    since: int = 0,
) -> list[Judgement]:
    """How every gate's budget stands after a run's readings so far, in the order of the gates.

    Args:
        progress: share of the run that is done, at the last reading; 1 at its end.
        tolerance: how much worse than at the start still counts as recovered.
        since: step at which the weights went back last: trends begin after it.
    """
    curves: dict[str, list[Reading]] = {}
    for reading in readings:
        curves.setdefault(reading.probe, []).append(reading)
    last = max((curve[-1].tokens for curve in curves.values()), default=0)
    total = last / progress if progress else math.inf
    cases = (
        _Case(gate, curves.get(gate.budget.probe, ()), total, progress, len(gates), tolerance, since)
        for gate in gates
    )
    return [replace(case.judged(), fresh=case.read_at(last)) for case in cases]


@dataclass(frozen=True)
class _Case:
    """A gate and what is known about its probe."""

    gate: Gate
    readings: Sequence[Reading]
    total_tokens: float
    progress: float
    gates: int
    tolerance: float
    since: int

    def read_at(self, tokens: int) -> bool:
        """Whether the last reading was after so many tokens."""
        return bool(self.readings) and self.readings[-1].tokens == tokens

    def judged(self) -> Judgement:
        if not self.readings:
            why = f"{self.gate.budget.probe} was not read"
            return Judgement(self.gate, "not measured", None, None, "", why)
        if math.isnan(self.readings[-1].rise):
            return self._diverged()
        return self._recovery() if self.gate.budget.recovery else self._limit()

    def _diverged(self) -> Judgement:
        """What is not a finite number is beyond every limit, though no comparison says so."""
        why, unit = f"{self.gate.budget.probe} is not a finite number", self.readings[-1].unit
        return Judgement(self.gate, "broken", None, None, unit, why, worse=math.inf, ends_at=math.inf)

    def _limit(self) -> Judgement:
        reading, limit = self.readings[-1], self.gate.budget.limit
        point, ahead = Point.of(reading), self._forecast()
        worse, error = point.worse, known(point.error)
        counts = worse - self._bound * error > 0
        exceeds = worse + ONE_SIDED_95 * error > limit or ahead.worse > limit
        verdict: Verdict = "held"
        why = _of_what_is_allowed(reading, worse, limit)
        if worse - self._bound * error > limit:
            verdict = "broken"
        elif counts and worse + ONE_SIDED_95 * error > limit:
            verdict = "at risk"
        elif counts and self.progress < 1 and ahead.worse > limit:
            verdict, why = "at risk", f"{why}, and by its trend ends at {_amount(ahead.worse, reading)}"
        elif worse > limit and self.progress < 1 and self._was_broken():
            verdict, why = "at risk", f"{why}, and was broken before"
        elif self._bound * error > limit > 0 and worse + ONE_SIDED_95 * error > limit:
            why = f"{why}; its noise exceeds that"
        return Judgement(
            self.gate,
            verdict,
            reading.rise,
            None if math.isnan(reading.rise_error) else reading.rise_error,
            reading.unit,
            why,
            worse=worse,
            slack=worse + ONE_SIDED_95 * error < _SLACK * limit
            and ahead.is_below(_SLACK * limit, ONE_SIDED_95),
            ends_at=_multiple(worse if math.isnan(ahead.worse) else ahead.worse, limit),
            suspect=exceeds and worse - standard_errors(SUSPICION, reading.items) * error > 0,
        )

    def _recovery(self) -> Judgement:
        within = self.gate.budget.limit
        curve = [Point.of(reading) for reading in self.readings]
        gap = stability_gap(curve, self.tolerance, self.gates)
        back = 0.0 if not gap.gap else self._share(gap.recovery_tokens)
        value = self.progress if back is None else back
        name = self.gate.budget.probe
        if back == 0 and self._unseen(within):
            why = f"{name} was not read between the start and {within:.0%} of the tokens"
            return Judgement(self.gate, "not measured", None, None, "share of tokens", why)
        verdict: Verdict
        if back == 0:
            verdict, why = "held", f"{name} has not risen by more than its noise"
        elif back is None:
            verdict = "broken" if value > within else "at risk" if value > within / 2 else "held"
            why = f"{name} has not come back after {value:.0%} of the tokens, of {within:.0%} allowed"
        else:
            verdict = "broken" if value > within else "held"
            why = f"{name} came back after {value:.0%} of the tokens, of {within:.0%} allowed"
        return Judgement(
            self.gate,
            verdict,
            value,
            None,
            "share of tokens",
            why,
            worse=curve[-1].worse,
            slack=back is not None,
            ends_at=value / within,
        )

    def _unseen(self, within: float) -> bool:
        """Whether nothing was read in that first share of the run, so that a rise may have come and gone."""
        last = within * self.total_tokens
        return self.progress > within and not any(0 < reading.tokens <= last for reading in self.readings)

    def _was_broken(self) -> bool:
        """Whether a reading of these weights proved the limit broken, and none after it was within it."""
        for looked in range(len(self.readings) - 1, 0, -1):
            reading = self.readings[looked - 1]
            point = Point.of(reading)
            if point.worse <= self.gate.budget.limit or not self._of_these_weights(reading):
                return False
            bound = critical(looks(looked, self.gates), reading.items)
            if point.worse - bound * known(point.error) > self.gate.budget.limit:
                return True
        return False

    def _of_these_weights(self, reading: Reading) -> bool:
        return reading.step > self.since or self.since == 0

    @property
    def _bound(self) -> float:
        """Standard errors that count: at the end of the run there is one look at each gate."""
        count = self.gates if self.progress >= 1 else looks(len(self.readings), self.gates)
        return critical(count, self.readings[-1].items)

    def _forecast(self) -> Forecast:
        points = [Point.of(r) for r in self.readings if self._of_these_weights(r)]
        if not points or not self.progress:
            return UNKNOWN
        shares = [point.tokens / self.total_tokens for point in points]
        return forecast(shares, [p.worse for p in points], [p.error for p in points])

    def _share(self, tokens: int | None) -> float | None:
        return None if tokens is None else tokens / self.total_tokens


def _multiple(worse: float, limit: float) -> float:
    if limit:
        return worse / limit
    return math.inf if worse > 0 else 0.0


def _of_what_is_allowed(reading: Reading, worse: float, limit: float) -> str:
    if worse >= 0:
        return f"{_change(reading)} of {_amount(limit, reading)} allowed"
    direction = "fall" if reading.rise > 0 else "rise"
    allowed = f"a {direction} of {_amount(limit, reading)}" if limit else f"no {direction}"
    return f"{_change(reading)}, where {allowed} is allowed"


def _change(reading: Reading) -> str:
    verb = "rose" if reading.rise >= 0 else "fell"
    return f"{reading.probe} {verb} by {_amount(abs(reading.rise), reading, reading.rise_error)}"


def _amount(value: float, reading: Reading, error: float = math.nan) -> str:
    """A number as people read it, with its 95% interval if an error is given; accuracies in points."""
    scale = 100 if reading.unit == "accuracy" else 1
    interval = "" if math.isnan(error) else f" ± {2 * error * scale:.2g}"
    amount = f"{value * scale:.3g}{interval}"
    if reading.unit != "accuracy":
        return amount
    return f"{amount} point" if amount == "1" else f"{amount} points"


def verdict(judgements: Sequence[Judgement]) -> str:
    """How the budgets stand, in one sentence; empty without any."""
    if not judgements:
        return ""
    for word in ("broken", "at risk"):
        found = [judgement for judgement in judgements if judgement.verdict == word]
        if found:
            others = f", and {len(found) - 1} more" if len(found) > 1 else ""
            return f"{found[0].budget} is {word}{others}: {found[0].why}"
    unread = [judgement for judgement in judgements if judgement.verdict == "not measured"]
    if unread:
        return f"{unread[0].budget} is not measured yet"
    return judgements[0].why if len(judgements) == 1 else f"all {len(judgements)} budgets hold"
