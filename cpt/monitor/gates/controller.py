"""The actions that follow from limits: a pure controller, whose state is part of every checkpoint.

Replay's effect grows about with the logarithm of its share (Ibrahim et al. 2024: 1, 5, 10 and 25% help by
equal amounts), so a share is raised by doubling it, and by more if a limit is far exceeded or the last raise
has not turned the rise. From no replay it starts small, or larger if a limit is far exceeded. A change gets
time to take effect: while the rise falls, and ends within its limit by the trend, nothing more is done. The
share is lowered by steps of a quarter when every limit has clear slack at several readings in a row.
Raising it again after that doubles the number of readings before the next lowering, so it cannot oscillate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from cpt.monitor.gates.gate import HALF, Fail, LowerRate, RaiseReplay, RollBack, Stop
from cpt.monitor.gates.judge import Judgement

SETTLE = 0.04
"""Share of the run between two changes."""

REST = 0.05
"""Share of the run without a change that must precede a lower replay share."""

PATIENCE = 3
"""Readings in a row with clear slack before the first lowering of the share."""

_LEAST_RAISE, _MOST_RAISE = 2.0, 4.0
"""Smallest and largest factor of the replay share."""

_FIRST_SHARE = 0.05
"""First replay share after none, enough for a weak shift (Ibrahim et al. 2024); up to `_MOST_RAISE` times as
large if a limit is far exceeded."""

_ROUNDING = 1e-9
"""Rounding error of a share of a batch, in rows."""

_AIM = 0.8
"""Share of the limit that a falling rise must reach by its trend, so that nothing is done."""


@dataclass(frozen=True)
class DecisionPoint:
    """The position in the run at which a decision is made.

    Attributes:
        step: Number of steps done.
        progress: Share of the run that is done.
        batch: Rows of a global batch.
        start_rows: Replay rows in the recipe, at this step.
        stale: Number of readings since the best point that `stop` returns; 0 if that is this one.
    """

    step: int
    progress: float
    batch: int
    start_rows: int
    stale: int = 0


@dataclass(frozen=True)
class ControlState:
    """State of the controller.

    Attributes:
        rows: Replay rows of each global batch.
        rate_factor: Multiple of the schedule's rate.
        changed_step, changed_at: Step and progress of the last change.
        went_back: Step of the last roll-back: earlier readings are of other weights.
        worse_at_raise: Deterioration of the probe at the last raise of the share; None after a lowering.
        slack_readings: Number of readings in a row with clear slack.
        patience: Number of them that leads to a lower share.
        lowered: True if the last change of the share was a lowering.
        roll_backs: Number of roll-backs, by limit.
        warned: Verdicts of the last warnings, by limit.
        ended: Why the run ends here, if it does.
    """

    rows: int
    rate_factor: float = 1.0
    changed_step: int = 0
    changed_at: float = 0.0
    went_back: int = 0
    worse_at_raise: float | None = None
    slack_readings: int = 0
    patience: int = PATIENCE
    lowered: bool = False
    roll_backs: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, str] = field(default_factory=dict)
    ended: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class Action:
    """An action because of a limit.

    Attributes:
        judgement: Judgement of the limit.
        action: Name of the action.
        before, after: Replay share, rate factor or step before and after.
        result: Weights that an ended run returns, in words.
    """

    judgement: Judgement
    action: str
    before: float | None = None
    after: float | None = None
    result: str = ""

    def __str__(self) -> str:
        changed = {
            "raise-replay": "replay is raised",
            "lower-replay": "replay is lowered",
            "lower-rate": "the rate is lowered",
            "roll-back": "the weights go back",
            "stop": "the run ends",
            "fail": "the run fails",
            "warn": f"{self.judgement.limit} is {self.judgement.verdict}",
        }[self.action]
        key = f"{self.judgement.key}: " if self.judgement.key else ""
        if self.result:
            return f"{key}{changed}, and its result is {self.result}: {self.judgement.why}"
        fro = "" if self.before is None else f" from {self.before:.4g}"
        to = "" if self.after is None else f" to {self.after:.4g}"
        return f"{key}{changed}{fro}{to}: {self.judgement.why}"

    def as_json(self, step: int, tokens: int) -> dict[str, Any]:
        """Return a record of `actions.jsonl`."""
        judgement = self.judgement
        return {
            "step": step,
            "tokens": tokens,
            "key": judgement.key,
            "limit": judgement.limit.text,
            "probe": judgement.limit.probe,
            "action": self.action,
            "value": judgement.value,
            "error": judgement.error,
            "from": self.before,
            "to": self.after,
            "result": self.result,
            "why": judgement.why,
        }


def most_rows(share: float, batch: int) -> int:
    """Return the largest number of rows that is at most a share of a batch."""
    return math.floor(share * batch + _ROUNDING)


def fewest_rows(share: float, batch: int) -> int:
    """Return the smallest number of rows that is at least a share of a batch."""
    return math.ceil(share * batch - _ROUNDING)


def decide(
    judgements: Sequence[Judgement], state: ControlState, now: DecisionPoint
) -> tuple[list[Action], ControlState]:
    """Return the actions after a reading of the probes, and the controller's new state.

    At most one action that changes the course of the training is taken for a gate at a time. The order is:
    fail, stop, roll back, then changes of replay and rate. Gates whose probes were not read now only keep the
    replay share from being lowered.
    """
    actions, state = _warnings(judgements, state)
    if now.progress >= 1:  # the run is over: only its verdict is left, and the choice of its result
        return _without_gain(judgements, actions, state, now)
    for kind in (Fail, Stop):
        for judgement in judgements:
            if isinstance(judgement.gate, kind) and _lasts(judgement, judgement.gate.after, now):
                ended = replace(state, ended=judgement.why)
                return [*actions, Action(judgement, judgement.gate.action)], ended
    actions, state = _without_gain(judgements, actions, state, now)
    if state.ended is not None:
        return actions, state
    for judgement in judgements:
        gate = judgement.gate
        done = state.roll_backs.get(judgement.limit.text, 0)
        if isinstance(gate, RollBack) and done < gate.times and _lasts(judgement, gate.after, now):
            more, state = _roll_back(judgement, gate, state, now)
            return [*actions, *more], state
    for change in (_change_replay, _lower_rate):
        more, state = change(judgements, state, now)
        actions += more
    return actions, state


def _lasts(judgement: Judgement, after: float, now: DecisionPoint) -> bool:
    """Return True if a limit is broken for good: not by an early gap, nor by one that closes."""
    broken = judgement.fresh and judgement.verdict == "broken"
    return broken and judgement.ends_at > 1 and now.progress >= after


def _without_gain(
    judgements: Sequence[Judgement], actions: list[Action], state: ControlState, now: DecisionPoint
) -> tuple[list[Action], ControlState]:
    """End the run where an earlier point is the best one: at its end, or when a gate's patience is over."""
    for judgement in judgements:
        gate = judgement.gate
        if not isinstance(gate, Stop) or not now.stale:
            continue
        waited = gate.patience is not None and now.stale >= gate.patience and now.progress >= gate.after
        if waited or (now.progress >= 1 and gate.chooses_at_end):
            times = "1 reading" if now.stale == 1 else f"{now.stale} readings"
            why = f"{gate.by} has not gained more since then, at {times}"
            return [*actions, Action(replace(judgement, why=why), gate.action)], replace(state, ended=why)
    return actions, state


def _warnings(judgements: Sequence[Judgement], state: ControlState) -> tuple[list[Action], ControlState]:
    """Return one warning for each change of a verdict to the worse."""
    rank = {"at risk": 1, "broken": 2}
    actions = []
    for judgement in judgements:
        before = state.warned.get(judgement.limit.text, "held")
        if judgement.gate.action == "warn" and rank.get(judgement.verdict, 0) > rank.get(before, 0):
            actions.append(Action(judgement, "warn"))
    return actions, replace(state, warned={j.limit.text: j.verdict for j in judgements})


def _roll_back(
    judgement: Judgement, gate: RollBack, state: ControlState, now: DecisionPoint
) -> tuple[list[Action], ControlState]:
    count = state.roll_backs.get(judgement.limit.text, 0) + 1
    roll_backs = {**state.roll_backs, judgement.limit.text: count}
    state = replace(state, roll_backs=roll_backs, went_back=now.step)
    actions = [Action(judgement, "roll-back", before=now.step)]
    if gate.then == "lower-rate":
        factor = state.rate_factor * (gate.factor or HALF)
        actions.append(Action(judgement, "lower-rate", state.rate_factor, factor))
        return actions, _changed(replace(state, rate_factor=factor), now)
    rows = _more_rows(state, judgement, gate.most or HALF, now.batch)
    if rows > state.rows:
        actions.append(_replay_action(judgement, "raise-replay", state.rows, rows, now))
    return actions, _changed(replace(state, rows=max(rows, state.rows)), now)


def _change_replay(
    judgements: Sequence[Judgement], state: ControlState, now: DecisionPoint
) -> tuple[list[Action], ControlState]:
    own = [(j, j.gate) for j in judgements if isinstance(j.gate, RaiseReplay)]
    if not any(judgement.fresh for judgement, _ in own):
        return [], state
    slack_readings = state.slack_readings + 1 if all(judgement.slack for judgement, _ in own) else 0
    state = replace(state, slack_readings=slack_readings)
    raises = [
        (_more_rows(state, judgement, gate.most, now.batch), judgement)
        for judgement, gate in own
        if _needs_more(judgement, state, now)
    ]
    rows, cause = max(raises, key=lambda raised: raised[0], default=(0, own[0][0]))
    if rows > state.rows:
        action = _replay_action(cause, "raise-replay", state.rows, rows, now)
        patience = state.patience * 2 if state.lowered else state.patience
        state = replace(state, rows=rows, worse_at_raise=cause.worse, patience=patience, lowered=False)
        return [action], _changed(state, now)
    least = max(now.start_rows if g.least is None else fewest_rows(g.least, now.batch) for _, g in own)
    rested = now.progress - state.changed_at >= REST
    if slack_readings >= state.patience and rested and state.rows > least:
        rows = max(least, state.rows - max(1, state.rows // 4))
        action = _replay_action(own[0][0], "lower-replay", state.rows, rows, now)
        state = replace(state, rows=rows, worse_at_raise=None, lowered=True)
        return [action], _changed(state, now)
    return [], state


def _needs_more(judgement: Judgement, state: ControlState, now: DecisionPoint) -> bool:
    """Return True if a limit may be in danger, and the last change had its time and is not enough.

    Replay costs little and takes time to act: a suspicion is enough, where all other actions wait for proof.
    """
    suspected = judgement.fresh and judgement.suspect
    if not (suspected or _endangered(judgement)) or not _settled(state, now):
        return False
    last = state.worse_at_raise
    return last is None or judgement.worse >= last or judgement.ends_at > _AIM


def _more_rows(state: ControlState, judgement: Judgement, most: float, batch: int) -> int:
    """Return the rows for a limit at risk: at least twice as many, more if it is far exceeded.

    Four times as many if the last raise has not turned the rise.
    """
    rows, last = state.rows, state.worse_at_raise
    allowed = judgement.limit.allowed
    excess = judgement.worse / allowed if allowed and not judgement.limit.recovery else math.inf
    if last is not None and judgement.worse >= last:
        excess = math.inf
    if rows:
        raised = math.ceil(rows * min(max(excess, _LEAST_RAISE), _MOST_RAISE))
    else:
        far = min(max(excess, 1.0), _MOST_RAISE) if math.isfinite(excess) else 1.0
        raised = max(1, round(_FIRST_SHARE * far * batch))
    return min(most_rows(most, batch), raised)


def _lower_rate(
    judgements: Sequence[Judgement], state: ControlState, now: DecisionPoint
) -> tuple[list[Action], ControlState]:
    actions = []
    for judgement in judgements:
        gate = judgement.gate
        if isinstance(gate, LowerRate) and _endangered(judgement) and _settled(state, now):
            factor = max(gate.least, state.rate_factor * gate.factor)
            if factor < state.rate_factor:
                actions.append(Action(judgement, "lower-rate", state.rate_factor, factor))
                state = _changed(replace(state, rate_factor=factor), now)
    return actions, state


def _endangered(judgement: Judgement) -> bool:
    return judgement.fresh and judgement.verdict in ("at risk", "broken")


def _settled(state: ControlState, now: DecisionPoint) -> bool:
    return state.changed_step == 0 or now.progress - state.changed_at >= SETTLE


def _changed(state: ControlState, now: DecisionPoint) -> ControlState:
    return replace(state, changed_step=now.step, changed_at=now.progress, slack_readings=0)


def _replay_action(judgement: Judgement, action: str, before: int, after: int, now: DecisionPoint) -> Action:
    return Action(judgement, action, before / now.batch, after / now.batch)
