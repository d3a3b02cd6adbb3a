"""Acts upon budgets while a model trains: what the controller of the gates decides, done.

The decision itself is pure (`cpt.monitor.gates.control`). Everything that it rests on is in the run's state,
and so in every checkpoint: a run that is killed and goes on decides, and does, the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from cpt.monitor.gates import Act, ControlState, Judgement, Moment, decide, judge, verdict
from cpt.monitor.gates.gate import Gate, Warn
from cpt.monitor.gates.rise import change
from cpt.monitor.reading import Reading
from cpt.progress import Progress
from cpt.sources import DOMAIN
from cpt.training.checkpoint.parts import Part
from cpt.training.checkpoint.point import SavedState
from cpt.training.data import PhasedStream, Stream
from cpt.training.log import write_lines
from cpt.training.processes import Processes
from cpt.training.settings import Settings
from cpt.training.state import State

BEST, GOOD = "best", "good"
"""Names of the points that are kept: the best one for `stop`, the last within its budget for `roll-back`."""


_BACK = {"stop": BEST, "roll-back": GOOD}
"""Actions that go back, and the points they go back to."""


def _is_good(judgement: Judgement) -> bool:
    """Return whether a probe was read within its budget, and nothing endangers it."""
    budget = judgement.budget
    inside = budget.recovery or judgement.worse <= budget.limit
    return inside and judgement.verdict in ("held", "not shown")


def kept_points(
    gates: Sequence[Gate], parts: Mapping[str, Part], optimizer: str, state: State
) -> dict[str, SavedState]:
    """The points that gates may go back to.

    Args:
        parts: of the run; `optimizer` is the name of the one that training on needs and a result does not.
    """
    actions = {gate.action for gate in gates}
    model = {name: part for name, part in parts.items() if name != optimizer}
    points = {BEST: SavedState(model, state)} if "stop" in actions else {}
    return points | ({GOOD: SavedState(parts, state)} if "roll-back" in actions else {})


class Control:
    """Heeds the gates after the probes were read; the loop asks it for the stream, the rate, and the end.

    On several processes all of them act alike, upon the main one's readings.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        stream: Stream,
        points: Mapping[str, SavedState],
        work: Path,
        progress: Progress,
        processes: Processes,
    ) -> None:
        """Take up where the state is.

        Args:
            stream: as the recipe has it, before any change of the replay share.
            points: of `kept_points`, restored.
            work: where `actions.jsonl` is kept.
        """
        self._gates, self._steps, self._tolerance = settings.gates, settings.steps, settings.tolerance
        self._stage = settings.stage
        self._state, self._stream, self._points = state, stream, points
        self._progress, self._processes = progress, processes
        self._file = work / "actions.jsonl" if processes.is_main and self._gates else None
        if self._file:
            write_lines(self._file, state.actions)

    @property
    def stream(self) -> Stream:
        """The stream with the replay share as it was changed so far."""
        if not self._state.phases:
            return self._stream
        phased = cast(PhasedStream, self._stream)
        return phased.with_phases([(first, rows) for first, rows in self._state.phases])

    @property
    def rate_factor(self) -> float:
        """Multiple of the schedule's rate."""
        return 1.0 if self._state.control is None else float(self._state.control["rate_factor"])

    @property
    def ended(self) -> bool:
        """Whether the run is over before its last step."""
        return self._state.ended is not None

    @property
    def record(self) -> dict[str, float]:
        """What the log, and the screen, say of a step where there are gates."""
        if not self._gates:
            return {}
        return {"replay_share": self._share(self._remembered().rows), "rate_factor": self.rate_factor}

    def after_probes(self) -> bool:
        """Act upon what was read since the last call; returns whether the weights are others now."""
        state = self._state
        if not self._gates or self.ended or len(state.readings) == state.judged:
            return False
        state.readings[state.judged :] = self._processes.data_from_main(state.readings[state.judged :])
        state.judged = len(state.readings)
        before, now = self._remembered(), self._now()
        readings = [Reading.from_json(reading) for reading in state.readings]
        judged = judge(self._gates, readings, now.progress, self._tolerance, before.went_back, self._stage)
        self._keep_points(judged)
        acts, after = decide(judged, before, now)
        state.control = after.as_json()
        if after.rows != before.rows:
            state.phases = [*(state.phases or [[0, before.rows]]), [state.step, after.rows]]
        acts = [self._with_point(act, readings) if act.action in _BACK else act for act in acts]
        self._say(judged, acts)
        moved = [self._go_back(act) for act in acts]
        return any(moved)

    def _keep_points(self, judged: Sequence[Judgement]) -> None:
        """Keep the present weights where they are the best within the budgets, or may be gone back to."""
        if BEST in self._points and (gain := self._gain(judged)) is not None:
            best = self._points[BEST]
            if best.score is None or gain > best.score:
                best.take(gain)
        own = [judgement for judgement in judged if judgement.gate.action == "roll-back"]
        read = any(judgement.fresh for judgement in own)
        if read and all(_is_good(judgement) for judgement in own):
            self._points[GOOD].take()

    def _gain(self, judged: Sequence[Judgement]) -> float | None:
        """Return the domain gain of the present weights if they may be the result of a run that is stopped.

        None where readings of this step do not show them within the budget of every gate that acts: what was
        read earlier is of other weights. The start always may be: nothing is lost there.
        """
        if self._state.step == 0:
            return 0.0
        fresh = {r["probe"]: r["rise"] for r in self._state.readings if r["step"] == self._state.step}
        acting = [judgement for judgement in judged if not isinstance(judgement.gate, Warn)]
        shown = all(judgement.fresh and judgement.within for judgement in acting)
        return -float(fresh[DOMAIN]) if shown and fresh.get(DOMAIN) is not None else None

    def _with_point(self, act: Act, readings: Sequence[Reading]) -> Act:
        """Return an act that goes back with the step that it goes back to, and why a result is chosen."""
        step = self._point(act).step
        result = "" if step is None or act.action != "stop" else self._chosen(step, readings)
        return replace(act, after=step, result=result)

    def _chosen(self, step: int, readings: Sequence[Reading]) -> str:
        """Say which weights are the result of a run that is stopped, and why."""
        if step == 0:
            return "the start: no later reading is shown to be within every budget and gains on the domain"
        acting = [gate.budget.probe for gate in self._gates if not isinstance(gate, Warn)]
        at = {reading.probe: reading for reading in readings if reading.step == step}
        named = dict.fromkeys([DOMAIN, *acting])
        figures = ", ".join(change(at[name]) for name in named if name in at)
        return f"the best point within the budgets, step {step} ({figures})"

    def _point(self, act: Act) -> SavedState:
        return self._points[_BACK[act.action]]

    def _go_back(self, act: Act) -> bool:
        """Do what an act says about weights and the end of the run; whether the weights are others now."""
        state = self._state
        moved = act.action in _BACK and self._point(act).step not in (None, state.step)
        result_step = self._point(act).go_back() if moved else state.step
        if act.action in ("stop", "fail"):
            why, step = act.judgement.why, state.step
            state.ended = {
                "step": step,
                "result_step": result_step,
                "action": act.action,
                "key": act.judgement.key,
                "why": why,
                "result": act.result,
            }
        return moved

    def _say(self, judged: Sequence[Judgement], acts: Sequence[Act]) -> None:
        """Note what is done in `actions.jsonl`, and say it, and how the budgets stand."""
        state = self._state
        state.actions += [act.as_json(state.step, state.tokens) for act in acts]
        if self._file and acts:
            write_lines(self._file, state.actions)
        for act in acts:
            self._progress.note("action", act.as_json(state.step, state.tokens) | {"said": str(act)})
        stand = [judgement.as_json() for judgement in judged]
        self._progress.note("verdict", {"step": state.step, "said": verdict(judged), "gates": stand})

    def _remembered(self) -> ControlState:
        if self._state.control is None:
            return ControlState(self._start_rows)
        return ControlState.from_json(self._state.control)

    def _now(self) -> Moment:
        step = self._state.step
        return Moment(step, step / self._steps, self._batch, self._start_rows)

    @property
    def _batch(self) -> int:
        return cast(PhasedStream, self._stream).batch_sequences

    @property
    def _start_rows(self) -> int:
        return cast(PhasedStream, self._stream).rows(0).get("replay", 0)

    def _share(self, rows: int) -> float:
        return rows / self._batch
