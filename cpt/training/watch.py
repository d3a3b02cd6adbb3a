"""The probes of a run: read when they are due, and what they found is kept where a resume finds it.

Readings are in the run's state, and for those who watch, as they come, in `probes.jsonl`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import torch

from cpt.monitor.probes.base import Probe
from cpt.monitor.reading import Items, Reading
from cpt.monitor.schedule import Moment
from cpt.packed.model import PackedLanguageModel
from cpt.training.log import open_lines
from cpt.training.processes import Processes
from cpt.training.state import State
from cpt.training.trackers import Trackers

READINGS = "probes.jsonl"


class Progress(Protocol):
    def message(self, text: str) -> None: ...


class Watch:
    """Reads probes on the way; the readings go to the state, the file, the trackers and the screen."""

    def __init__(
        self,
        probes: Sequence[Probe],
        module: PackedLanguageModel,
        state: State,
        end: Moment,
        work: Path,
        progress: Progress,
        processes: Processes,
        trackers: Trackers,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Watch a run from where its state is.

        Args:
            end: of the run, when every probe is read.
            work: folder of `probes.jsonl`, which is cut back to the state.
            shown: inside it, the module has the weights that are to be read.
        """
        self._shown = shown
        self._probes, self._module, self._state, self._end = probes, module, state, end
        self._progress, self._processes, self._trackers = progress, processes, trackers
        self._before = Moment(state.step, state.tokens)
        self._log = open_lines(work / READINGS, state.readings) if processes.is_main else None

    def begin(self) -> list[Reading]:
        """The readings before the first step, unless a run that continues has them already."""
        return [] if self._state.step or self._state.readings else self.after_step()

    def after_step(self) -> list[Reading]:
        """Read what is due now."""
        began = _now()
        now = Moment(self._state.step, self._state.tokens)
        before, self._before = self._before, now
        due = [probe for probe in self._probes if now.step == self._end.step or probe.when.due(before, now)]
        if not due:
            return []
        with self._shown():
            readings = [self._read(probe, now, 1.0) for probe in due]
        self._keep(readings)
        self._state.probe_seconds += _now() - began
        return readings

    def close(self) -> None:
        """Close the file."""
        if self._log:
            self._log.close()

    def _read(self, probe: Probe, now: Moment, share: float) -> Reading:
        began = _now()
        items = probe.read(self._module, share)
        known = self._state.baselines.get(probe.name)
        first = items if known is None else Items.from_json(known)
        if known is None:
            self._state.baselines[probe.name] = items.as_json()
        rise, rise_error = items.rise_over(first)
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
            share=len(items.numerators) / len(first.numerators),
            seconds=_now() - began,
            detail=items.detail,
        )

    def _keep(self, readings: Sequence[Reading]) -> None:
        step = self._state.step
        self._trackers.log(step, {f"{r.unit.replace(' ', '_')}/{r.probe}": r.value for r in readings})
        for reading in readings:
            self._state.readings.append(reading.as_json())
            if self._log:
                self._log.write(reading.as_json())
        for unit in dict.fromkeys(reading.unit for reading in readings):
            shown = (f"{r.probe} {r.value:.4f}" for r in readings if r.unit == unit)
            self._progress.message(f"step {step}: {', '.join(shown)} {unit}")


def _now() -> float:
    """Seconds of a clock, once what was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
