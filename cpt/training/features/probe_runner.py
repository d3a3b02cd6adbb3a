"""Read the probes of a run when they are due and the probe share allows, and keep their readings.

Readings are appended to `probes.jsonl`. A checkpoint has the file's length and checksum, and a run that
continues cuts it back. The readings that the probe share pays for are planned before the first step
(`cpt.monitor.probe_work`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar, Self

from cpt.errors import StageFailed
from cpt.monitor.gates import Gate, acted_upon
from cpt.monitor.probe_work import Demand, planned_shares
from cpt.monitor.reading import Items, Reading
from cpt.monitor.schedule import Every, Moment
from cpt.training.clock import wait_for_gpu
from cpt.training.feature import Run, StepOutcome, TrainingFeature
from cpt.training.features.weight_averaging import WeightAveraging
from cpt.training.json_lines import JsonLines

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe
    from cpt.training.checkpoint.stateful import StateDict
    from cpt.training.settings import TrainingConfig

READINGS = "probes.jsonl"
"""Name of the file of readings in a run's work folder."""


class ProbeRunner(TrainingFeature):
    """The probes of a run; their readings go to the state, the file, the listener and the other features."""

    state_name: ClassVar[str] = "probes"
    rolls_back: ClassVar[bool] = False  # readings of steps that are rolled back stay

    def __init__(self) -> None:
        self._file: JsonLines | None = None
        self._length, self._digest = 0, hashlib.sha256()

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:  # noqa: ARG003
        return cls()

    def on_start(self, run: Run) -> None:
        settings = run.settings
        self._path, self._state = run.work / READINGS, run.state
        self._end = Moment(settings.steps, settings.tokens)
        demands = demands_of(run.probes, self._end, settings.config.gates)
        self._shares = planned_shares(settings.probe_work, settings.tokens, demands)

    def on_resume(self, run: Run) -> None:
        """Cut the file back to the checkpoint; read before the first step, unless that is done."""
        from cpt.monitor.probes.base import ModelView

        state = run.state
        self._subject = ModelView(run.module, run.trained.master_weights)
        self._before = Moment(state.step, state.tokens)
        if run.processes.is_main:
            self._file = JsonLines(self._path, self._length)
        if not (state.step or state.readings):
            self._read_due(run)

    def after_step(self, run: Run, step: StepOutcome) -> None:  # noqa: ARG002
        self._read_due(run)

    def on_end(self, run: Run) -> None:  # noqa: ARG002
        if self._file:
            self._file.close()

    def state_dict(self) -> StateDict:
        """Return length and checksum of the readings, all of which are then on the disk."""
        length = self._file.length() if self._file else self._length
        return {"bytes": length, "sha256": self._digest.hexdigest()}

    def load_state_dict(self, saved: StateDict) -> None:
        """Read the readings of a checkpoint.

        Raises:
            StageFailed: the file does not hold them any more.
        """
        self._length = saved["bytes"]
        data = self._path.read_bytes()[: self._length] if self._path.exists() else b""
        self._digest = hashlib.sha256(data)
        if self._digest.hexdigest() != saved["sha256"]:
            damage = "is damaged" if len(data) == self._length else f"has fewer than {self._length:,} bytes"
            raise StageFailed(
                f"{self._path}, which has the readings of the run so far, {damage}",
                hint="Put the file back, or train in an empty work folder.",
            )
        self._state.readings = [json.loads(line) for line in data.splitlines()]

    def read_result(self, run: Run) -> None:
        """Read the result of a run that a gate has ended, whose weights are in place.

        Every probe is read in full, as at a last step, unless it was so read already: samples are sized for
        the final verdict on a limit. The readings are of the result's step, which may be an earlier one.
        """
        ended = run.state.ended
        if ended is None:
            raise AssertionError("the run has not ended early")
        known = [reading for reading in run.state.readings if reading["step"] == ended["result_step"]]
        read = {reading["probe"] for reading in known if reading["share"] == 1}
        missing = [probe for probe in run.probes if probe.name not in read]
        self._count_due(run, missing)
        in_full = dict.fromkeys((probe.name for probe in missing), 1.0)
        self._read_all(run, missing, Moment(ended["result_step"], known[0]["tokens"]), in_full)

    def _read_due(self, run: Run) -> None:
        now = Moment(run.state.step, run.state.tokens)
        before, self._before = self._before, now
        last = now.step == self._end.step
        due = [probe for probe in run.probes if last or probe.when.due(before, now)]
        self._count_due(run, due)
        shares = {probe.name: 1.0 if last else self._share(run, probe.name) for probe in due}
        self._read_all(run, [probe for probe in due if shares[probe.name]], now, shares)

    def _count_due(self, run: Run, due: Sequence[Probe]) -> None:
        for probe in due:
            run.state.wanted[probe.name] = run.state.wanted.get(probe.name, 0) + 1

    def _share(self, run: Run, name: str) -> float:
        """Return the share of a due probe's sample that is read between first and last: 0 for none of it."""
        number = run.state.wanted[name] - 2  # of the readings that come after the first
        if name not in run.state.baselines:
            return 1.0
        planned = self._shares[name]
        # steps differ in length, so a schedule in tokens may make a reading more than was planned
        return planned[min(number, len(planned) - 1)] if planned else 0.0

    def _read_all(self, run: Run, probes: Sequence[Probe], now: Moment, shares: Mapping[str, float]) -> None:
        if not probes:
            return
        wait_for_gpu()  # the last step may not be done yet: that is training
        started = time.perf_counter()
        averaging = run.find(WeightAveraging)
        with averaging.in_model() if averaging else nullcontext():
            readings = [self._read(run, probe, now, shares[probe.name]) for probe in probes]
        for reading in readings:
            run.state.readings.append(reading.as_json())
            if self._file:
                self._digest.update(self._file.write(reading.as_json()))
            run.progress.note("reading", reading.as_json())
        run.state.probe_seconds += time.perf_counter() - started
        run.report_readings(readings)

    def _read(self, run: Run, probe: Probe, now: Moment, share: float) -> Reading:
        began = time.perf_counter()
        items = probe.read(self._subject, share)
        known = run.state.baselines.get(probe.name)
        first = items if known is None else Items.from_json(known)
        if known is None:
            run.state.baselines[probe.name] = items.as_json()
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


def demands_of(probes: Sequence[Probe], end: Moment, gates: Sequence[Gate]) -> dict[str, Demand]:
    """Return the demands of probes in a run that ends at a moment, by name."""
    gated = acted_upon(gates)
    needed = {probe.name for probe in probes if isinstance(probe.when, Every)}
    return {
        probe.name: Demand.of(
            probe.work,
            probe.when,
            end,
            divisible=probe.divisible,
            gated=probe.name in gated,
            items=probe.items,
            always=probe.name in needed,
        )
        for probe in probes
    }
