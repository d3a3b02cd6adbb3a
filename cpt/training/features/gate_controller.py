"""Act on limits while a model trains: change the replay share or the rate, go back, or end the run.

The decision itself is pure (`cpt.monitor.gates.controller`). It depends only on the run's state, which is in
every checkpoint: a run that is killed and continues decides, and does, the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, Self, cast

from cpt.errors import Problem, did_you_mean
from cpt.monitor.gates import Action, ControlState, DecisionPoint, Judgement, decide, judge, verdict
from cpt.monitor.gates.controller import fewest_rows, most_rows
from cpt.monitor.gates.gate import HALF, Gate, Limit, RaiseReplay, RollBack, Stop, Warn
from cpt.monitor.gates.rise import change
from cpt.monitor.reading import HIGHER_IS_BETTER, Kind, Reading
from cpt.sources import DOMAIN, REPLAY
from cpt.training.feature import ExtraMemory, Run, RunFacts, TrainingFeature, WeightBytes
from cpt.training.json_lines import write_lines

if TYPE_CHECKING:
    from cpt.training.checkpoint.stateful import SavedState, StateDict, Stateful
    from cpt.training.data import PhasedStream, Stream
    from cpt.training.settings import TrainingConfig
    from cpt.training.state import State

BEST, GOOD = "best", "good"
"""Names of the saved states: the best one for `stop`, the last within its limit for `roll-back`."""

_BACK = {"stop": BEST, "roll-back": GOOD}
"""Actions that go back, and the saved states that they go back to."""

_OPTIMIZER = "optimizer"
"""Name of the state that training on needs and a result does not."""


class GateController(TrainingFeature):
    """The actions on limits after probes were read; the loop reads stream, rate factor and end from it.

    On several processes all of them act alike, on the main one's readings.
    """

    state_name: ClassVar[str] = "gates"
    rolls_back: ClassVar[bool] = False

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates
        self._saved: dict[str, SavedState] = {}

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        return cls(config.gates)

    def problems(self, facts: RunFacts, phases: Sequence[int] = ()) -> list[Problem]:
        """Return what cannot work, or would have no effect.

        Args:
            phases: replay rows of each phase of the run; by default those of the facts throughout.
        """
        counted = Counter((gate.limit.text, gate.action) for gate in self._gates)
        problems = [
            Problem(f"`{text}` has {count} gates that {action}", key="gates", hint="One is enough.")
            for (text, action), count in counted.items()
            if count > 1
        ]
        for number, gate in enumerate(self._gates):
            key = f"gates.{number}"
            problems += limit_problems(gate.limit, key, facts.probes)
            problems += _replay_problems(gate, key, facts, phases or [facts.replay_rows])
            if isinstance(gate, Stop):
                problems += _choice_problems(gate, key, facts.probes)
        if len(named := {gate.by for gate in self._gates if isinstance(gate, Stop)}) > 1:
            message = f"gates choose the result by different probes: {', '.join(sorted(named))}"
            problems.append(Problem(message, key="gates", hint="Give all gates that stop the same `by`."))
        return problems + (self.without_replay_text() if facts.has_replay is False else [])

    def without_replay_text(self) -> list[Problem]:
        """Return a problem for each gate that may ask for replay text, where the corpus has none."""
        return [
            Problem(
                f"`{gate.limit}` may raise the replay share, but the corpus has no replay text",
                key=f"gates.{number}.action",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or choose another "
                "action.",
            )
            for number, gate in enumerate(self._gates)
            if _most(gate) is not None
        ]

    def describe(self) -> str:
        if not self._gates:
            return ""
        return "bounded: " + ", ".join(f"{gate.limit} ({gate.consequence})" for gate in self._gates)

    def extra_bytes(self, weights: WeightBytes) -> ExtraMemory:
        """Return the memory of the saved states, once all of them were taken, where the originals are."""
        actions = {gate.action for gate in self._gates if gate.goes_back}
        host = len(actions) * weights.host
        copies = len(actions) * weights.saved + ("roll-back" in actions) * weights.optimizer
        return ExtraMemory("gates", held=copies - host, host=host, saved_later=copies)

    def on_start(self, run: Run) -> None:
        from cpt.training.data import FollowedStream

        self._run, self._state, self._stream = run, run.state, run.stream
        self._followed = FollowedStream(run.stream, run.state)
        own = {name: each for name, each in run.features_with_state().items() if each.rolls_back}
        self._saved = saved_states(self._gates, {**run.stateful, **own}, run.state)
        self._file = run.work / "actions.jsonl" if run.processes.is_main and self._gates else None

    def on_resume(self, run: Run) -> None:
        if self._file:
            write_lines(self._file, run.state.actions)

    def state_dict(self) -> StateDict:
        return {
            f"{name}/{key}": value
            for name, saved in self._saved.items()
            for key, value in saved.state_dict().items()
        }

    def load_state_dict(self, saved: StateDict) -> None:
        for name, state in self._saved.items():
            prefix = f"{name}/"
            state.load_state_dict(
                {key.removeprefix(prefix): each for key, each in saved.items() if key.startswith(prefix)}
            )

    @property
    def stream(self) -> Stream:
        """Training stream with the replay share that gates have set, and the weights that updates have."""
        return self._followed.now

    @property
    def rate_factor(self) -> float:
        """Multiple of the schedule's rate."""
        return 1.0 if self._state.control is None else float(self._state.control["rate_factor"])

    @property
    def ended(self) -> bool:
        """True if a gate has ended the run."""
        return self._state.ended is not None

    @property
    def figures(self) -> dict[str, float]:
        """Replay share of the last step and rate factor for the log, where there are gates."""
        if not self._gates:
            return {}
        taken = max(0, self._state.step - 1)
        rows = cast("PhasedStream", self.stream).rows(taken).get(REPLAY, 0)
        return {"replay_share": self._share(rows), "rate_factor": self.rate_factor}

    def after_probes(self, run: Run, new: Sequence[Reading]) -> None:  # noqa: ARG002
        """Act on the readings that were made since the last call."""
        state, settings = self._state, run.settings
        if not self._gates or self.ended:
            return
        state.readings[state.judged :] = run.processes.data_from_main(state.readings[state.judged :])
        state.judged = len(state.readings)
        before, now = self._remembered(), self._now()
        readings = [Reading.from_json(reading) for reading in state.readings]
        judged = judge(
            self._gates, readings, now.progress, settings.tolerance, before.went_back, settings.stage
        )
        self._save_states(judged)
        actions, after = decide(judged, before, replace(now, stale=self._stale()))
        state.control = after.as_json()
        if after.rows != before.rows:
            state.phases = [*(state.phases or [[0, self._planned_rows(0)]]), [state.step, after.rows]]
        actions = [
            self._with_saved_step(action, readings) if action.action in _BACK else action
            for action in actions
        ]
        self._report(judged, actions)
        moved = [self._carry_out(action) for action in actions]
        if any(moved):
            run.report_rollback()

    def _save_states(self, judged: Sequence[Judgement]) -> None:
        """Save the present state if it is the best within the limits, or good enough to go back to."""
        if BEST in self._saved and (gain := self._gain(judged)) is not None:
            best = self._saved[BEST]
            if best.score is None or gain > best.score:
                best.take(gain)
        own = [judgement for judgement in judged if judgement.gate.action == "roll-back"]
        read = any(judgement.fresh for judgement in own)
        if read and all(_is_good(judgement) for judgement in own):
            self._saved[GOOD].take()

    def _gain(self, judged: Sequence[Judgement]) -> float | None:
        """Return the gain of the present weights if they may be the result of a run that is stopped.

        None where readings of this step do not show them within the limit of every gate that acts: what was
        read earlier is of other weights. The start always may be: nothing is lost there.
        """
        if self._state.step == 0:
            return 0.0
        fresh = {r["probe"]: r for r in self._state.readings if r["step"] == self._state.step}
        acting = [judgement for judgement in judged if not isinstance(judgement.gate, Warn)]
        shown = all(judgement.fresh and judgement.within for judgement in acting)
        reading = fresh.get(self._by)
        if not shown or reading is None or reading["rise"] is None:
            return None
        sign = 1 if reading["unit"] in HIGHER_IS_BETTER else -1
        return sign * float(reading["rise"])

    def _stale(self) -> int:
        """Return the number of readings since the best point; 0 without a gate that goes back to it."""
        best = self._saved[BEST].step if BEST in self._saved else None
        if best is None:
            return 0
        return sum(r["probe"] == self._by and r["step"] > best for r in self._state.readings)

    @property
    def _by(self) -> str:
        """Name of the probe whose gain chooses the result of a run that is stopped."""
        return next((gate.by for gate in self._gates if isinstance(gate, Stop)), DOMAIN)

    def _with_saved_step(self, action: Action, readings: Sequence[Reading]) -> Action:
        """Return an act that goes back with the step that it goes back to, and why a result is chosen."""
        step = self._saved_for(action).step
        result = "" if step is None or action.action != "stop" else self._chosen(step, readings)
        return replace(action, after=step, result=result)

    def _chosen(self, step: int, readings: Sequence[Reading]) -> str:
        """Describe which weights are the result of a run that is stopped, and why."""
        if step == 0:
            gains = "gains on the domain" if self._by == DOMAIN else f"gains on {self._by}"
            return f"the start: no later reading is shown to be within every limit and {gains}"
        acting = [gate.limit.probe for gate in self._gates if not isinstance(gate, Warn)]
        at = {reading.probe: reading for reading in readings if reading.step == step}
        named = dict.fromkeys([self._by, *acting])
        figures = ", ".join(change(at[name]) for name in named if name in at)
        return f"the best point within the limits, step {step} ({figures})"

    def _saved_for(self, action: Action) -> SavedState:
        return self._saved[_BACK[action.action]]

    def _carry_out(self, action: Action) -> bool:
        """Restore weights and end the run as an act says; return True if the weights are others now."""
        state = self._state
        moved = action.action in _BACK and self._saved_for(action).step not in (None, state.step)
        result_step = self._saved_for(action).go_back() if moved else state.step
        if action.action in ("stop", "fail"):
            why, step = action.judgement.why, state.step
            state.ended = {
                "step": step,
                "result_step": result_step,
                "action": action.action,
                "key": action.judgement.key,
                "why": why,
                "result": action.result,
                "early": step < self._run.settings.steps,
            }
        return moved

    def _report(self, judged: Sequence[Judgement], actions: Sequence[Action]) -> None:
        """Write the acts to `actions.jsonl`, and report them and the limits to the listener."""
        state, progress = self._state, self._run.progress
        state.actions += [action.as_json(state.step, state.tokens) for action in actions]
        if self._file and actions:
            write_lines(self._file, state.actions)
        for action in actions:
            progress.note("action", action.as_json(state.step, state.tokens) | {"said": str(action)})
        stand = [judgement.as_json() for judgement in judged]
        progress.note("verdict", {"step": state.step, "said": verdict(judged), "gates": stand})

    def _remembered(self) -> ControlState:
        """Return the controller's state with the present rows, which the recipe's phases may change."""
        rows = cast("PhasedStream", self.stream).rows(self._state.step).get(REPLAY, 0)
        if self._state.control is None:
            return ControlState(rows)
        return replace(ControlState.from_json(self._state.control), rows=rows)

    def _now(self) -> DecisionPoint:
        step, planned = self._state.step, self._planned_rows(self._state.step)
        return DecisionPoint(step, step / self._run.settings.steps, self._batch, planned)

    @property
    def _batch(self) -> int:
        return cast("PhasedStream", self._stream).batch_sequences

    def _planned_rows(self, step: int) -> int:
        """Return the replay rows that the recipe has at a step."""
        return cast("PhasedStream", self._stream).rows(step).get(REPLAY, 0)

    def _share(self, rows: int) -> float:
        return rows / self._batch


def _choice_problems(gate: Stop, key: str, probes: Mapping[str, Kind]) -> list[Problem]:
    """Return the reason why a gate's probe cannot choose the result, or end the run."""
    by, kind = gate.by, probes.get(gate.by)
    if kind == "task" or (kind and by == DOMAIN and gate.patience is None):
        return []
    place = "patience" if by == DOMAIN else "by"
    hint: str | None = "Set `by` to a task with measure: p_gold; evaluate reports the other half of it."
    if kind == "text":
        message = f"the best of many readings of {by} is biased on this text, on which results are reported"
    elif kind is not None:
        message = f"the best point cannot be found by {by}, of which there is no gain"
    elif by == DOMAIN:
        message, place = "the best point cannot be found: the corpus has no held-out domain text", "action"
        hint = "Hold some out, or choose `fail`."
    else:
        message = f"no probe is called `{by}`, so the best point cannot be found by it"
        hint = did_you_mean(by, probes)
    return [Problem(message, key=f"{key}.{place}", hint=hint)]


def _is_good(judgement: Judgement) -> bool:
    """Return True if a probe was read within its limit, and nothing endangers it."""
    limit = judgement.limit
    inside = limit.recovery or judgement.worse <= limit.allowed
    return inside and judgement.verdict in ("held", "not shown")


def saved_states(
    gates: Sequence[Gate], stateful: Mapping[str, Stateful], state: State
) -> dict[str, SavedState]:
    """Return the saved states that gates may go back to, all of them empty.

    Args:
        stateful: weights, optimizer, and features whose state goes back with them, by name.
        state: state of the loop.
    """
    from cpt.training.checkpoint.stateful import SavedState

    actions = {gate.action for gate in gates}
    model = {name: each for name, each in stateful.items() if name != _OPTIMIZER}
    saved = {BEST: SavedState(model, state)} if "stop" in actions else {}
    return saved | ({GOOD: SavedState(stateful, state)} if "roll-back" in actions else {})


def may_replay(gates: Sequence[Gate]) -> bool:
    """Return True if some gate may ask for replay text."""
    return any(_most(gate) is not None for gate in gates)


def least_rows(gates: Sequence[Gate], rows: int, batch: int) -> int:
    """Return the fewest replay rows that a batch can have, of `rows` at first."""
    given = [g.least for g in gates if isinstance(g, RaiseReplay) and g.least is not None]
    return min([rows, *(fewest_rows(least, batch) for least in given)])


def limit_problems(
    limit: Limit, key: str, probes: Mapping[str, Kind], under: str = "monitor"
) -> list[Problem]:
    """Return the reasons why a gate's limit cannot be watched.

    Args:
        key: key of the gate.
        probes: kinds of the probes that are read, by name.
        under: setting under which more probes can be named.
    """
    if limit.probe not in probes:
        near = get_close_matches(limit.probe.lower(), probes, n=1)
        known = ", ".join(f"`{name}`" for name in probes)
        hint = f"Did you mean `{near[0]}`?" if near else f"Measured are {known}; add others under `{under}`."
        message = f"no probe is called `{limit.probe}`, so `{limit}` cannot be watched"
        return [Problem(message, key=f"{key}.limit", hint=hint)]
    misfit = limit.misfit(probes[limit.probe])
    return [Problem(f"`{limit}` does not go with its probe: {misfit}", key=f"{key}.limit")] if misfit else []


def _replay_problems(gate: Gate, key: str, facts: RunFacts, phases: Sequence[int]) -> list[Problem]:
    """Return the bounds of a gate that change nothing in any phase, by the replay rows of each."""
    most, batch = _most(gate), facts.batch_sequences
    if most is None:
        return []
    problems = []
    rows = most_rows(most, batch)
    if rows <= min(phases):
        message = f"{most:g} of {batch} sequences are {rows} rows, and the run has {min(phases)} or more"
        hint = "Raise `most`, use larger batches, or begin with less `replay`."
        problems.append(Problem(f"nothing is left to raise: {message}", key=f"{key}.most", hint=hint))
    least = gate.least if isinstance(gate, RaiseReplay) else None
    if least is not None and fewest_rows(least, batch) >= max(phases):
        message = f"{least:g} of {batch} sequences is no less than the {max(phases)} that the run has at most"
        hint = "Leave `least` out: then the share is not lowered below `replay`."
        problems.append(Problem(message, key=f"{key}.least", hint=hint))
    return problems


def _most(gate: Gate) -> float | None:
    """Return the largest replay share that a gate may ask for; None if it asks for none."""
    if isinstance(gate, RaiseReplay):
        return gate.most
    if isinstance(gate, RollBack) and gate.then == "raise-replay":
        return gate.most or HALF
    return None
