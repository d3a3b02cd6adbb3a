"""Judgement of limits by a run's readings and their noise, in pure functions.

During a run, a limit is *at risk* or *broken* only if that is significant over all interim looks
(`cpt.monitor.noise`): an action needs proof. At the end of the run the burden of proof is reversed. A limit
is *held* only if the upper bound of the rise is within it, *broken* if the lower bound is beyond it,
and *not shown* otherwise. Both bounds are one-sided, at 95%, by Student's t over documents (questions,
samples), whose change is measured in pairs.

The bounds are not corrected for the number of limits. That all limits are held is claimed only if each of
them is, so each is tested at 95% (intersection-union test). A false *broken* needs a true rise that is close
to the limit: with several such limits, one of them is called broken in more than 5 of 100 runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cpt.monitor.gates.gate import Gate, Limit
from cpt.monitor.gates.rise import (
    UNKNOWN,
    Forecast,
    Rise,
    amount,
    forecast,
    of_what_is_allowed,
    possible,
    unknown,
)
from cpt.monitor.noise import ONE_SIDED_95, SUSPICION, critical, looks, needed_items, standard_errors
from cpt.monitor.reading import Reading
from cpt.monitor.stability import Point, stability_gap

Verdict = Literal["held", "not shown", "at risk", "broken", "not measured"]
"""State of a limit; a finished run has held, not shown or broken."""

_SLACK = 0.5
"""Share of the limit below which there is clear slack."""


@dataclass(frozen=True)
class Judgement:
    """Judgement of a gate's limit.

    Attributes:
        value: Change since the start, in the probe's unit, as read; of a recovery, the share of the run's
            tokens after which the probe was back, or has not been so far. None: not measured.
        error: Standard error of `value`; None if unknown.
        unit: Unit of both, and of the limit.
        why: Grounds of the verdict in a few words.
        worse: Deterioration of the probe since the start.
        slack: True if the probe is clearly within its limit, now and by the trend.
        ends_at: Multiple of the limit at the end of the run by the trend, or by the last reading without one.
        suspect: True if the probe seems to exceed its limit, though that may be noise: enough for cheap
            actions.
        fresh: True if the probe was read at the last step with any reading.
        within: True if the upper bound of the rise is within the limit; always for a recovery, which bounds
            no single reading.
        items: Number of documents (questions, samples) in the reading.
        needed: Number of them that finds a rise of 4/3 of the limit, estimated from the present error.
        key: Key of the gate in the recipe.
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
    within: bool = False
    items: int | None = None
    needed: int | None = None
    key: str = ""

    @property
    def limit(self) -> Limit:
        return self.gate.limit

    @property
    def allowed(self) -> float:
        """Return the largest `value` that is allowed, with its sign."""
        return -self.limit.allowed if self.limit.falls else self.limit.allowed

    def as_json(self) -> dict[str, Any]:
        """Return JSON data for the training's summary."""
        return {
            "key": self.key,
            "limit": self.limit.text,
            "probe": self.limit.probe,
            "allowed": self.allowed,
            "unit": self.unit,
            "action": self.gate.action,
            "verdict": self.verdict,
            "value": self.value,
            "error": self.error,
            "items": self.items,
            "needed_items": self.needed,
            "why": self.why,
        }


def judge(
    gates: Sequence[Gate],
    readings: Iterable[Reading],
    progress: float,
    tolerance: float = 0.001,
    since: int = 0,
    stage: str = "",
) -> list[Judgement]:
    """Judge the limit of every gate by a run's readings so far, in the order of the gates.

    Args:
        gates: Gates of the stage.
        readings: Readings of the run, in order.
        progress: Share of the run that is done at the last reading; 1 at its end.
        tolerance: Deterioration that still counts as recovered.
        since: Step of the last roll-back: trends begin after it.
        stage: Name of the stage in the recipe, for the keys of the gates.
    """
    curves: dict[str, list[Reading]] = {}
    for reading in readings:
        curves.setdefault(reading.probe, []).append(reading)
    last = max((curve[-1].tokens for curve in curves.values()), default=0)
    total = last / progress if progress else math.inf
    cases = (
        _Case(gate, curves.get(gate.limit.probe, ()), total, progress, len(gates), tolerance, since)
        for gate in gates
    )
    return [
        replace(case.judged(), fresh=case.read_at(last), key=gate_key(stage, number))
        for number, case in enumerate(cases)
    ]


def gate_key(stage: str, number: int) -> str:
    """Return the recipe key of a stage's gate: `pretrain.gates.0`."""
    return f"{stage}.gates.{number}" if stage else f"gates.{number}"


@dataclass(frozen=True)
class _Case:
    """A gate with the readings of its probe."""

    gate: Gate
    readings: Sequence[Reading]
    total_tokens: float
    progress: float
    gates: int
    tolerance: float
    since: int

    def read_at(self, tokens: int) -> bool:
        """Return True if the last reading was after this number of tokens."""
        return bool(self.readings) and self.readings[-1].tokens == tokens

    def judged(self) -> Judgement:
        name = self.gate.limit.probe
        if not self.readings:
            return self._unread(f"{name} was not read", "")
        if math.isnan(self.readings[-1].rise):
            return self._diverged()
        return self._recovery() if self.gate.limit.recovery else self._change()

    def _unread(self, why: str, unit: str) -> Judgement:
        verdict: Verdict = "not shown" if self._over else "not measured"
        return Judgement(self.gate, verdict, None, None, unit, why)

    def _diverged(self) -> Judgement:
        """Judge a value that is not finite: it exceeds every limit, though comparisons with NaN are false."""
        why, unit = f"{self.gate.limit.probe} is not a finite number", self.readings[-1].unit
        return Judgement(self.gate, "broken", None, None, unit, why, worse=math.inf, ends_at=math.inf)

    def _change(self) -> Judgement:
        reading, allowed = self.readings[-1], self.gate.limit.allowed
        ahead, rise = self._forecast(), Rise.of(reading)
        worse, error = rise.worse, rise.error
        counts = worse - self._bound * error > 0
        exceeds = worse + ONE_SIDED_95 * error > allowed or ahead.worse > allowed
        within = rise.upper <= allowed
        verdict: Verdict = "held" if within else "not shown"
        why = of_what_is_allowed(reading, worse, allowed)
        if self._over:
            if rise.lower > allowed:
                verdict = "broken"
            elif not within:
                why = f"{why}; {possible(reading, rise)}"
        elif worse - self._bound * error > allowed:
            verdict = "broken"
        elif counts and worse + ONE_SIDED_95 * error > allowed:
            verdict = "at risk"
        elif counts and ahead.worse > allowed:
            verdict, why = "at risk", f"{why}, and by its trend ends at {amount(ahead.worse, reading)}"
        elif worse > allowed and self._was_broken():
            verdict, why = "at risk", f"{why}, and was broken before"
        elif not within:
            why = f"{why}; {possible(reading, rise)}"
        return Judgement(
            self.gate,
            verdict,
            reading.rise,
            None if math.isnan(reading.rise_error) else reading.rise_error,
            reading.unit,
            why,
            worse=worse,
            slack=worse + ONE_SIDED_95 * error < _SLACK * allowed
            and ahead.is_below(_SLACK * allowed, ONE_SIDED_95),
            ends_at=_multiple(worse if math.isnan(ahead.worse) else ahead.worse, allowed),
            suspect=exceeds and worse - standard_errors(SUSPICION, rise.items) * error > 0,
            within=within,
            items=reading.items,
            needed=needed_items(allowed, reading.rise_error, reading.items or 0),
        )

    def _recovery(self) -> Judgement:
        """Judge whether a probe came back to its start, within the tolerance, by a share of the run's tokens.

        At the end the limit is broken if the first reading after that point shows a rise beyond the
        tolerance, or a later one does over all looks; held if the last reading up to the point shows none;
        else not shown.
        """
        within, name, reading = self.gate.limit.allowed, self.gate.limit.probe, self.readings[-1]
        if not self.total_tokens:
            why = f"{name} is that of the start"
            return Judgement(self.gate, "held", 0.0, None, "share of tokens", why, slack=True, within=True)
        curve = [Point.of(reading) for reading in self.readings]
        gap = stability_gap(curve, self.tolerance, self.gates)
        back = 0.0 if not gap.gap else self._share(gap.recovery_tokens)
        value = self.progress if back is None else back
        if back == 0 and self._unseen(within):
            why = f"{name} was not read between the start and {within:.0%} of the tokens"
            return self._unread(why, "share of tokens")
        if math.isinf(Rise.of(reading).error):
            why = f"whether {name} has come back: {unknown(reading)}"
            unit, items = "share of tokens", reading.items
            return Judgement(self.gate, "not shown", None, None, unit, why, within=True, items=items)
        if back == 0:
            why = f"{name} has not risen by more than its noise"
        elif back is None:
            why = f"{name} has not come back after {value:.0%} of the tokens, of {within:.0%} allowed"
        else:
            why = f"{name} came back after {value:.0%} of the tokens, of {within:.0%} allowed"
        verdict = self._recovered_at_end() if self._over else self._recovered_so_far(back, value)
        if verdict == "not shown":
            why = f"{why}; no reading shows it within {amount(self.tolerance, reading)} of its start"
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
            within=True,
            items=reading.items,
            needed=needed_items(self.tolerance, reading.rise_error, reading.items or 0),
        )

    def _recovered_at_end(self) -> Verdict:
        deadline = self.gate.limit.allowed * self.total_tokens
        rises = [Rise.of(reading) for reading in self.readings]
        late = [rise for rise, r in zip(rises, self.readings, strict=True) if r.tokens >= deadline]
        count = looks(len(rises), self.gates)
        if (late and late[0].lower > self.tolerance) or any(r.least(count) > self.tolerance for r in late):
            return "broken"
        return "held" if self._shown_back(deadline) else "not shown"

    def _recovered_so_far(self, back: float | None, value: float) -> Verdict:
        within = self.gate.limit.allowed
        if value > within and back != 0:
            return "broken"
        if back is None and value > within / 2:
            return "at risk"
        return "held" if self._shown_back(within * self.total_tokens) else "not shown"

    def _shown_back(self, deadline: float) -> bool:
        """Return True if the last reading after the start and up to the deadline shows a recovery."""
        timely = [reading for reading in self.readings if 0 < reading.tokens <= deadline]
        return bool(timely) and Rise.of(timely[-1]).upper <= self.tolerance

    def _unseen(self, within: float) -> bool:
        """Return True if the first share of the run has no reading, so that a rise may have come and gone."""
        last = within * self.total_tokens
        return self.progress > within and not any(0 < reading.tokens <= last for reading in self.readings)

    def _was_broken(self) -> bool:
        """Return True if a reading of these weights exceeded the limit and no later one was below it."""
        for looked in range(len(self.readings) - 1, 0, -1):
            reading = self.readings[looked - 1]
            rise = Rise.of(reading)
            if rise.worse <= self.gate.limit.allowed or not self._of_these_weights(reading):
                return False
            if rise.least(looks(looked, self.gates)) > self.gate.limit.allowed:
                return True
        return False

    def _of_these_weights(self, reading: Reading) -> bool:
        return reading.step > self.since or self.since == 0

    @property
    def _over(self) -> bool:
        """Return True if the run has ended and the verdict is final."""
        return self.progress >= 1

    @property
    def _bound(self) -> float:
        """Return the standard errors of a significant reading during the run."""
        return critical(looks(len(self.readings), self.gates), Rise.of(self.readings[-1]).items)

    def _forecast(self) -> Forecast:
        points = [Point.of(r) for r in self.readings if self._of_these_weights(r)]
        if not points or not self.progress or self._over:
            return UNKNOWN
        shares = [point.tokens / self.total_tokens for point in points]
        return forecast(shares, [p.worse for p in points], [p.error for p in points])

    def _share(self, tokens: int | None) -> float | None:
        return None if tokens is None else tokens / self.total_tokens


def _multiple(worse: float, limit: float) -> float:
    if limit:
        return worse / limit
    return math.inf if worse > 0 else 0.0


def verdict(judgements: Sequence[Judgement]) -> str:
    """Return the state of the limits in one sentence; empty if there are none."""
    if not judgements:
        return ""
    for word in ("broken", "at risk"):
        found = [judgement for judgement in judgements if judgement.verdict == word]
        if found:
            others = f", and {len(found) - 1} more" if len(found) > 1 else ""
            return f"{found[0].limit} is {word}{others}: {found[0].why}"
    unread = [judgement for judgement in judgements if judgement.verdict == "not measured"]
    if unread:
        return f"{unread[0].limit} is not measured yet"
    open_ = [judgement for judgement in judgements if judgement.verdict == "not shown"]
    if open_:
        others = f", and {len(open_) - 1} more" if len(open_) > 1 else ""
        return f"{open_[0].limit} is not shown{others}: {open_[0].why}"
    return judgements[0].why if len(judgements) == 1 else f"all {len(judgements)} limits hold"
