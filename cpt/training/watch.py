"""The probes of a run: read when they are due and the budget allows, and kept where a resume finds them.

Readings are in the run's state, and for those who watch, as they come, in `probes.jsonl`. Which ones the
budget pays for is planned before the first step (`cpt.monitor.budget`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cpt.monitor.budget import Demand, planned_shares
from cpt.monitor.gates import Gate, acted_upon
from cpt.monitor.probes.base import Probe, Subject
from cpt.monitor.reading import Items, Reading
from cpt.monitor.schedule import Moment
from cpt.progress import Progress
from cpt.training.clock import wait_for_gpu
from cpt.training.log import open_lines
from cpt.training.processes import Processes
from cpt.training.settings import Settings
from cpt.training.state import State
from cpt.training.trackers import Trackers

READINGS = "probes.jsonl"


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
            work: folder of `probes.jsonl`, which is cut back to the state.
            shown: inside it, the subject has the weights that are to be read.
        """
        self._shown = shown
        self._probes, self._subject, self._state = probes, subject, state
        self._end = Moment(settings.steps, settings.tokens)
        self._shares = planned_shares(
            settings.allowance, settings.tokens, demands_of(probes, self._end, settings.gates)
        )
        self._progress, self._trackers = progress, trackers
        self._before = Moment(state.step, state.tokens)
        self._log = open_lines(work / READINGS, state.readings) if processes.is_main else None

    def begin(self) -> list[Reading]:
        """The readings before the first step, unless a run that continues has them already."""
        return [] if self._state.step or self._state.readings else self.after_step()

    def after_step(self) -> list[Reading]:
        """Read what is due now."""
        now = Moment(self._state.step, self._state.tokens)
        before, self._before = self._before, now
        last = now.step == self._end.step
        due = [probe for probe in self._probes if last or probe.when.due(before, now)]
        self._want(due)
        shares = {probe.name: 1.0 if last else self._share(probe.name) for probe in due}
        return self._read_all([probe for probe in due if shares[probe.name]], now, shares)

    def read_result(self) -> list[Reading]:
        """Read the result of a run that a gate has ended, whose weights are in place.

        All is read in full, as at a last step, but for what was so read already: samples are sized for the
        last word on a budget. The readings are of the result's step, which may be behind them.
        """
        ended = self._state.ended
        if ended is None:
            raise AssertionError("the run has not ended early")
        known = [reading for reading in self._state.readings if reading["step"] == ended["result_step"]]
        read = {reading["probe"] for reading in known if reading["share"] == 1}
        missing = [probe for probe in self._probes if probe.name not in read]
        self._want(missing)
        in_full = dict.fromkeys((probe.name for probe in missing), 1.0)
        return self._read_all(missing, Moment(ended["result_step"], known[0]["tokens"]), in_full)

    def close(self) -> None:
        """Close the file."""
        if self._log:
            self._log.close()

    def _want(self, due: Sequence[Probe]) -> None:
        for probe in due:
            self._state.wanted[probe.name] = self._state.wanted.get(probe.name, 0) + 1

    def _share(self, name: str) -> float:
        """Return the share of a due probe's sample that is read between first and last: 0 for none of it."""
        number = self._state.wanted[name] - 2  # of the readings that come after the first
        if name not in self._state.baselines:
            return 1.0
        planned = self._shares[name]
        # steps differ in length, so a schedule in tokens may come to a reading more than was planned
        return planned[min(number, len(planned) - 1)] if planned else 0.0

    def _read_all(self, probes: Sequence[Probe], now: Moment, shares: Mapping[str, float]) -> list[Reading]:
        if not probes:
            return []
        wait_for_gpu()  # the last step was asked for, and not yet done: that is training
        started = time.perf_counter()
        with self._shown():
            readings = [self._read(probe, now, shares[probe.name]) for probe in probes]
        self._keep(readings)
        self._state.probe_seconds += time.perf_counter() - started
        return readings

    def _read(self, probe: Probe, now: Moment, share: float) -> Reading:
        began = time.perf_counter()
        items = probe.read(self._subject, share)
        state = self._state
        known = state.baselines.get(probe.name)
        first = items if known is None else Items.from_json(known)
        if known is None:
            state.baselines[probe.name] = items.as_json()
        rise, rise_error = items.rise_over(first)
        wait_for_gpu()
        seconds = time.perf_counter() - began
        part = len(items.numerators) / len(first.numerators)
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


def demands_of(probes: Sequence[Probe], end: Moment, gates: Sequence[Gate]) -> dict[str, Demand]:
    """Return the demands of probes in a run that ends at a moment, by name."""
    gated = acted_upon(gates)
    return {
        probe.name: Demand.of(
            probe.work, probe.when, end, divisible=probe.divisible, gated=probe.name in gated
        )
        for probe in probes
    }
