"""The probes of a run: read when they are due and the budget allows, and kept where a resume finds them.

Readings are in the run's state, and for those who watch, as they come, in `probes.jsonl`. What the time
budget gives follows from measured times, so it would not be the same again: it is written to a journal
before anything is read, and a run that goes on from an earlier step does what the journal says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from cpt.monitor.budget import Allotment, Clock, Outlook, allot, expected_cost
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
    ) -> None:
        """Watch a run from where its state is.

        Args:
            work: folder of `probes.jsonl`, which is cut back to the state, and of the budget's journal.
        """
        self._probes, self._subject, self._state = probes, subject, state
        self._end, self._allowance = Moment(settings.steps, settings.tokens), settings.allowance
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

    def after_step(self, ends: bool = False) -> list[Reading]:
        """Read what is due now.

        Args:
            ends: the run ends here, earlier than it was to.
        """
        began = _now()
        now = Moment(self._state.step, self._state.tokens)
        before, self._before = self._before, now
        pace, self._seconds = self._state.seconds - self._seconds, self._state.seconds
        last = ends or now.step == self._end.step
        due = [probe for probe in self._probes if last or probe.when.due(before, now)]
        if not due:
            return []
        for probe in due:
            self._state.wanted[probe.name] = self._state.wanted.get(probe.name, 0) + 1
        if last or any(probe.name not in self._state.baselines for probe in due):
            given = dict.fromkeys((probe.name for probe in due), 1.0)
        else:
            given = self._given(due, now, pace)
        readings = [self._read(probe, now, given[probe.name]) for probe in due if given[probe.name]]
        self._keep(readings)
        self._state.probe_seconds += _now() - began
        return readings

    def close(self) -> None:
        """Close the files."""
        for file in (self._log, self._journal):
            if file:
                file.close()

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
        )
        outlooks = {
            probe.name: Outlook(
                cost=state.probe_costs.get(probe.name, 0.0),
                left=probe.when.left(now, self._end),
                due=probe.name in names,
                early=probe.when.early(now),
                divisible=probe.divisible,
                saved=state.probe_savings.get(probe.name, 0.0),
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
