"""The probes of a run: read when they are due and the budget allows, and kept where a resume finds them.

Readings are in the run's state, and for those who watch, as they come, in `probes.jsonl`. What the time
budget gives follows from measured times, so it would not be the same again: it is written to a journal
before anything is read, and a run that goes on from an earlier step does what the journal says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from cpt.monitor.budget import Allotment, Clock, Outlook, allot, expected_cost
from cpt.monitor.gates import acted_upon
from cpt.monitor.probes.base import Probe, Subject
from cpt.monitor.reading import Items, Reading
from cpt.monitor.schedule import Moment
from cpt.training.log import open_lines
from cpt.training.processes import Processes
from cpt.training.settings import Settings
from cpt.training.state import State
from cpt.training.trackers import Trackers
from cpt.training.watch_journal import Journal

READINGS = "probes.jsonl"
JOURNAL = "monitor.jsonl"


class Progress(Protocol):
    def note(self, kind: str, facts: Mapping[str, Any]) -> None: ...


class Watch:
    """Reads probes on the way; the readings go to the state, the file, the trackers and the screen."""

    def __init__(
        self,
        probes: Sequence[Probe],
        subject: Subject,
        state: State,
        settings: Settings,
        work: Path,
        progress: Progress,
        processes: Processes,
        trackers: Trackers,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Watch a run from where its state is.

        Args:
            work: folder of `probes.jsonl`, which is cut back to the state, and of the budget's journal.
            shown: inside it, the subject has the weights that are to be read.
        """
        self._shown = shown
        self._probes, self._subject, self._state = probes, subject, state
        self._end, self._allowance = Moment(settings.steps, settings.tokens), settings.allowance
        self._gated = acted_upon(settings.gates)
        self._progress, self._processes, self._trackers = progress, processes, trackers
        self._before, self._seconds = Moment(state.step, state.tokens), state.seconds
        self._log = open_lines(work / READINGS, state.readings) if processes.is_main else None
        self._journal = Journal(work / JOURNAL) if processes.is_main else None

    def begin(self) -> list[Reading]:
        """The readings before the first step, unless a run that continues has them already."""
        if self._state.step or self._state.readings:
            return []
        self._state.probe_seconds += self._allowance.spent if self._allowance else 0.0
        return self.after_step()

    def after_step(self) -> list[Reading]:
        """Read what is due now."""
        began = _now()
        now = Moment(self._state.step, self._state.tokens)
        before, self._before = self._before, now
        pace, self._seconds = self._state.seconds - self._seconds, self._state.seconds
        last = now.step == self._end.step
        due = [probe for probe in self._probes if last or probe.when.due(before, now)]
        if not due:
            return []
        self._want(due)
        if last or any(probe.name not in self._state.baselines for probe in due):
            given = dict.fromkeys((probe.name for probe in due), 1.0)
        else:
            given = self._given(due, now, pace)
        readings = self._read_all(due, now, given)
        self._state.probe_seconds += _now() - began
        return readings

    def read_result(self) -> list[Reading]:
        """Read what was not read of the result of a run that a gate has ended, whose weights are in place.

        At a last step all is read in any case, and so it is here, in full, but for what the budget has read
        a part of already. The readings are of the result's step, which may be behind them.
        """
        ended = self._state.ended
        if ended is None:
            raise AssertionError("the run has not ended early")
        began = _now()
        known = [reading for reading in self._state.readings if reading["step"] == ended["result_step"]]
        read = {reading["probe"] for reading in known}
        missing = [probe for probe in self._probes if probe.name not in read]
        if not missing:
            return []
        self._want(missing)
        now = Moment(ended["result_step"], known[0]["tokens"])
        readings = self._read_all(missing, now, dict.fromkeys((probe.name for probe in missing), 1.0))
        self._state.probe_seconds += _now() - began
        return readings

    def close(self) -> None:
        """Close the files."""
        for file in (self._log, self._journal):
            if file:
                file.close()

    def _want(self, due: Sequence[Probe]) -> None:
        for probe in due:
            self._state.wanted[probe.name] = self._state.wanted.get(probe.name, 0) + 1

    def _read_all(self, due: Sequence[Probe], now: Moment, given: Mapping[str, float]) -> list[Reading]:
        with self._shown():
            readings = [self._read(probe, now, given[probe.name]) for probe in due if given[probe.name]]
        self._keep(readings)
        return readings

    def _given(self, due: Sequence[Probe], now: Moment, pace: float) -> dict[str, float]:
        """Share of each due probe's sample that is read, the same in every process."""
        if self._allowance is None:
            return {probe.name: 1.0 for probe in due}
        allotted = {probe.name: Allotment(0.0, 0.0) for probe in due}
        if self._journal:
            allotted = self._journal.decided(now.step) or self._allot(due, now, pace)
            self._journal.write(now.step, allotted)
        numbers = [number for name in allotted for number in (allotted[name].share, allotted[name].saved)]
        agreed = self._processes.from_main(numbers)
        self._state.probe_savings |= dict(zip(allotted, agreed[1::2], strict=True))
        return dict(zip(allotted, agreed[::2], strict=True))

    def _allot(self, due: Sequence[Probe], now: Moment, pace: float) -> dict[str, Allotment]:
        assert self._allowance is not None
        state, names = self._state, {probe.name for probe in due}
        mean = state.seconds / max(1, state.step)
        clock = Clock(
            training=state.seconds,
            pace=min(mean, pace) if pace else mean,
            left=self._end.step - now.step,
            probing=state.probe_seconds + self._allowance.owed,
            done=now.step,
        )
        read = Counter(reading["probe"] for reading in state.readings)
        outlooks = {
            probe.name: Outlook(
                cost=state.probe_costs.get(probe.name, 0.0),
                left=probe.when.left(now, self._end),
                due=probe.name in names,
                early=probe.when.early(now),
                divisible=probe.divisible,
                saved=state.probe_savings.get(probe.name, 0.0),
                gated=probe.name in self._gated,
                read=read[probe.name] - 1,
            )
            for probe in self._probes
        }
        found = allot(self._allowance.share, clock, outlooks)
        return {probe.name: found[probe.name] for probe in due}

    def _read(self, probe: Probe, now: Moment, share: float) -> Reading:
        began = _now()
        items = probe.read(self._subject, share)
        state = self._state
        known = state.baselines.get(probe.name)
        first = items if known is None else Items.from_json(known)
        if known is None:
            state.baselines[probe.name] = items.as_json()
        rise, rise_error = items.rise_over(first)
        seconds = _now() - began
        part = len(items.numerators) / len(first.numerators)
        state.probe_costs[probe.name] = expected_cost(state.probe_costs.get(probe.name), seconds, part)
        return Reading(
            step=now.step,
            tokens=now.tokens,
            probe=probe.name,
            kind=probe.kind,
            unit=probe.unit,
            value=rise if probe.relative else items.value,
            standard_error=rise_error if probe.relative else items.standard_error,
            rise=rise,
            rise_error=rise_error,
            share=part,
            seconds=seconds,
            detail=items.detail,
            items=len(items.numerators),
        )

    def _keep(self, readings: Sequence[Reading]) -> None:
        step = self._state.step
        self._trackers.log(step, {f"{r.unit.replace(' ', '_')}/{r.probe}": r.value for r in readings})
        for reading in readings:
            self._state.readings.append(reading.as_json())
            if self._log:
                self._log.write(reading.as_json())
            self._progress.note("reading", reading.as_json())


def _now() -> float:
    """Seconds of a clock, once what was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
