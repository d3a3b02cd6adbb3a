"""What is done about budgets: a pure controller, whose state is a part of every checkpoint.

Replay's effect grows about with the logarithm of its share (Ibrahim et al. 2024: 1, 5, 10 and 25% help by
equal amounts), so a share is raised by doubling it, more where a budget is far exceeded or the last raise has
not turned the rise; from none it starts small, or at once larger where a budget is far exceeded. A change is
given time to act; while it acts (the rise falls, and ends within its limit by the trend) nothing more is
done. The share is lowered by steps of a quarter when every budget has clear slack at several readings in a
row. Raising it again after that doubles how many readings the next lowering takes: it cannot swing to and
fro.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from cpt.monitor.gates.gate import HALF, Fail, LowerRate, RaiseReplay, RollBack, Stop
from cpt.monitor.gates.judge import Judgement

SETTLE = 0.04
"""Share of the run that a change is given before the next one."""

CALM = 0.05
"""Share of the run for which there must have been no change before the replay share is lowered."""

PATIENCE = 3
"""Readings in a row with clear slack before the share is lowered for the first time."""

_LEAST_RAISE, _MOST_RAISE = 2.0, 4.0
"""By what the replay share is multiplied."""

_FIRST_SHARE = 0.05
"""What the replay share is raised to from none, enough for a weak shift (Ibrahim et al. 2024); up to
`_MOST_RAISE` times as much where a budget is far exceeded."""

_ROUNDING = 1e-9
"""Rows by which a share of a batch may be off as a floating-point number."""

_AIM = 0.8
"""Share of what is allowed that a falling rise must come to by its trend, to be left alone."""


@dataclass(frozen=True)
class Moment:
    """When a decision is taken.

    Attributes:
        progress: share of the run that is done.
        batch: rows of a global batch.
        start_rows: replay rows that the recipe asks for.
    """

    step: int
    progress: float
    batch: int
    start_rows: int


@dataclass(frozen=True)
class ControlState:
    """What the controller must remember.

    Attributes:
        rows: replay rows of each global batch.
        rate_factor: multiple of the schedule's rate.
        changed_step, changed_at: step and progress of the last change.
        went_back: step at which the weights went back last: what was read before is of others.
        worse_at_raise: rise of the probe for which the share was raised last, if it was since it was lowered.
        calm: readings in a row with clear slack.
        patience: as many of them lead to a lower share.
        lowered: whether the last change of the share was a lowering.
        roll_backs: how often was gone back for each budget.
        warned: verdicts that were warned of last, by budget.
        ended: why the run ends here, if it does.
    """

    rows: int
    rate_factor: float = 1.0
    changed_step: int = 0
    changed_at: float = 0.0
    went_back: int = 0
    worse_at_raise: float | None = None
    calm: int = 0
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
class Act:
    """Something that is done because of a budget.

    Attributes:
        before, after: replay share, rate factor or step from and to.
        result: which weights a run that ends returns, in words.
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
            "warn": f"{self.judgement.budget} is {self.judgement.verdict}",
        }[self.action]
        key = f"{self.judgement.key}: " if self.judgement.key else ""
        if self.result:
            return f"{key}{changed}, and its result is {self.result}: {self.judgement.why}"
        fro = "" if self.before is None else f" from {self.before:.4g}"
        to = "" if self.after is None else f" to {self.after:.4g}"
        return f"{key}{changed}{fro}{to}: {self.judgement.why}"

    def as_json(self, step: int, tokens: int) -> dict[str, Any]:
        """A record of `actions.jsonl`."""
        judgement = self.judgement
        return {
            "step": step,
            "tokens": tokens,
            "key": judgement.key,
            "budget": judgement.budget.text,
            "probe": judgement.budget.probe,
            "action": self.action,
            "value": judgement.value,
            "error": judgement.error,
            "from": self.before,
            "to": self.after,
            "result": self.result,
            "why": judgement.why,
        }


def most_rows(share: float, batch: int) -> int:
    """The most rows that are no more than a share of a batch."""
    return math.floor(share * batch + _ROUNDING)


def fewest_rows(share: float, batch: int) -> int:
    """The fewest rows that are no less than a share of a batch."""
    return math.ceil(share * batch - _ROUNDING)


def decide(
    judgements: Sequence[Judgement], state: ControlState, now: Moment
) -> tuple[list[Act], ControlState]:
    """What is done after a reading of the probes, and what is remembered of it.

    Only one of the actions that change the training's course is taken for a gate at a time; the gates are
    heeded in the order: fail, stop, roll back, and only then what goes on. Gates whose probes were not read
    now were acted upon when they were: they only keep the replay share from being lowered.
    """
    acts, state = _warnings(judgements, state)
    if now.progress >= 1:
        return acts, state  # nothing is left to act on: the run is judged
    for kind in (Fail, Stop):
        for judgement in judgements:
            if isinstance(judgement.gate, kind) and _lasts(judgement, judgement.gate.after, now):
                ended = replace(state, ended=judgement.why)
                return [*acts, Act(judgement, judgement.gate.action)], ended
    for judgement in judgements:
        gate = judgement.gate
        done = state.roll_backs.get(judgement.budget.text, 0)
        if isinstance(gate, RollBack) and done < gate.times and _lasts(judgement, gate.after, now):
            more, state = _roll_back(judgement, gate, state, now)
            return [*acts, *more], state
    for change in (_change_replay, _lower_rate):
        more, state = change(judgements, state, now)
        acts += more
    return acts, state


def _lasts(judgement: Judgement, after: float, now: Moment) -> bool:
    """Whether a budget is broken for good: not by a gap early in the run, nor by one that closes."""
    broken = judgement.fresh and judgement.verdict == "broken"
    return broken and judgement.ends_at > 1 and now.progress >= after


def _warnings(judgements: Sequence[Judgement], state: ControlState) -> tuple[list[Act], ControlState]:
    """Each change of a verdict to the worse is said once."""
    rank = {"at risk": 1, "broken": 2}
    acts = []
    for judgement in judgements:
        before = state.warned.get(judgement.budget.text, "held")
        if judgement.gate.action == "warn" and rank.get(judgement.verdict, 0) > rank.get(before, 0):
            acts.append(Act(judgement, "warn"))
    return acts, replace(state, warned={j.budget.text: j.verdict for j in judgements})


def _roll_back(
    judgement: Judgement, gate: RollBack, state: ControlState, now: Moment
) -> tuple[list[Act], ControlState]:
    count = state.roll_backs.get(judgement.budget.text, 0) + 1
    roll_backs = {**state.roll_backs, judgement.budget.text: count}
    state = replace(state, roll_backs=roll_backs, went_back=now.step)
    acts = [Act(judgement, "roll-back", before=now.step)]
    if gate.then == "lower-rate":
        factor = state.rate_factor * (gate.factor or HALF)
        acts.append(Act(judgement, "lower-rate", state.rate_factor, factor))
        return acts, _changed(replace(state, rate_factor=factor), now)
    rows = _more_rows(state, judgement, gate.most or HALF, now.batch)
    if rows > state.rows:
        acts.append(_replay_act(judgement, "raise-replay", state.rows, rows, now))
    return acts, _changed(replace(state, rows=max(rows, state.rows)), now)


def _change_replay(
    judgements: Sequence[Judgement], state: ControlState, now: Moment
) -> tuple[list[Act], ControlState]:
    own = [(j, j.gate) for j in judgements if isinstance(j.gate, RaiseReplay)]
    if not any(judgement.fresh for judgement, _ in own):
        return [], state
    calm = state.calm + 1 if all(judgement.slack for judgement, _ in own) else 0
    state = replace(state, calm=calm)
    raises = [
        (_more_rows(state, judgement, gate.most, now.batch), judgement)
        for judgement, gate in own
        if _needs_more(judgement, state, now)
    ]
    rows, cause = max(raises, key=lambda raised: raised[0], default=(0, own[0][0]))
    if rows > state.rows:
        act = _replay_act(cause, "raise-replay", state.rows, rows, now)
        patience = state.patience * 2 if state.lowered else state.patience
        state = replace(state, rows=rows, worse_at_raise=cause.worse, patience=patience, lowered=False)
        return [act], _changed(state, now)
    least = max(now.start_rows if g.least is None else fewest_rows(g.least, now.batch) for _, g in own)
    rested = now.progress - state.changed_at >= CALM
    if calm >= state.patience and rested and state.rows > least:
        rows = max(least, state.rows - max(1, state.rows // 4))
        act = _replay_act(own[0][0], "lower-replay", state.rows, rows, now)
        state = replace(state, rows=rows, worse_at_raise=None, lowered=True)
        return [act], _changed(state, now)
    return [], state


def _needs_more(judgement: Judgement, state: ControlState, now: Moment) -> bool:
    """Whether a budget may be in danger, and what was done last has had its time and is not enough.

    Replay costs little and takes time to act: a suspicion is enough, where all other actions wait for proof.
    """
    suspected = judgement.fresh and judgement.suspect
    if not (suspected or _endangered(judgement)) or not _settled(state, now):
        return False
    last = state.worse_at_raise
    return last is None or judgement.worse >= last or judgement.ends_at > _AIM


def _more_rows(state: ControlState, judgement: Judgement, most: float, batch: int) -> int:
    """Rows for a budget that is at risk: at least twice as many, more where it is far exceeded.

    Four times as many where the last raise has not turned the rise.
    """
    rows, last = state.rows, state.worse_at_raise
    allowed = judgement.budget.limit
    excess = judgement.worse / allowed if allowed and not judgement.budget.recovery else math.inf
    if last is not None and judgement.worse >= last:
        excess = math.inf
    if rows:
        raised = math.ceil(rows * min(max(excess, _LEAST_RAISE), _MOST_RAISE))
    else:
        far = min(max(excess, 1.0), _MOST_RAISE) if math.isfinite(excess) else 1.0
        raised = max(1, round(_FIRST_SHARE * far * batch))
    return min(most_rows(most, batch), raised)


def _lower_rate(
    judgements: Sequence[Judgement], state: ControlState, now: Moment
) -> tuple[list[Act], ControlState]:
    acts = []
    for judgement in judgements:
        gate = judgement.gate
        if isinstance(gate, LowerRate) and _endangered(judgement) and _settled(state, now):
            factor = max(gate.least, state.rate_factor * gate.factor)
            if factor < state.rate_factor:
                acts.append(Act(judgement, "lower-rate", state.rate_factor, factor))
                state = _changed(replace(state, rate_factor=factor), now)
    return acts, state


def _endangered(judgement: Judgement) -> bool:
    return judgement.fresh and judgement.verdict in ("at risk", "broken")


def _settled(state: ControlState, now: Moment) -> bool:
    return state.changed_step == 0 or now.progress - state.changed_at >= SETTLE


def _changed(state: ControlState, now: Moment) -> ControlState:
    return replace(state, changed_step=now.step, changed_at=now.progress, calm=0)


def _replay_act(judgement: Judgement, action: str, before: int, after: int, now: Moment) -> Act:
    return Act(judgement, action, before / now.batch, after / now.batch)
