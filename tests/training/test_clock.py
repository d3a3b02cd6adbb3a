"""Seconds of steps on a device that still works when its host goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import records, run, tiny_probes, with_checkpoints

from cpt.monitor.probes.text import TextProbe
from cpt.training import clock
from cpt.training.checkpoint.store import Store
from cpt.training.features import checkpoints, probe_runner
from cpt.training.step import Stepper

BACKWARD, OPTIMIZER, READING, WRITING, HOST = 5_000, 1_000, 70, 30, 400


class Gpu:
    """A device that does what it is asked for one after the other, and a clock that shows when."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = self.free = 0.0
        self.waits = 0
        patch.setattr(time, "perf_counter", lambda: self.now)
        for module in (clock, probe_runner, checkpoints):
            patch.setattr(module, "wait_for_gpu", self.wait)
        self._after(patch, Stepper, "gradient", lambda: (self.ask(BACKWARD), self._until_free()))
        self._after(patch, Stepper, "apply", lambda: self.ask(OPTIMIZER))
        self._after(patch, TextProbe, "read", lambda: self.ask(READING))
        self._after(patch, Store, "save", lambda: self.spend(WRITING))
        self._after(patch, probe_runner.ProbeRunner, "after_step", lambda: self.spend(HOST))

    def ask(self, seconds: float) -> None:
        self.free = max(self.free, self.now) + seconds

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def wait(self) -> None:
        self.waits += 1
        self._until_free()

    def _until_free(self) -> None:
        self.now = max(self.now, self.free)

    @staticmethod
    def _after(patch: pytest.MonkeyPatch, kind: type, name: str, then: Callable[[], object]) -> None:
        original = getattr(kind, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            then()
            return result

        patch.setattr(kind, name, wrapped)


def test_every_second_of_the_gpu_counts_as_training_probing_or_writing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gpu(monkeypatch)
    settings = with_checkpoints(every=4, mode="blocking")
    _, result, _ = run(tiny_model, tmp_path, settings, probes=tiny_probes(tiny_model, 0, 3))
    assert [reading.step for reading in result.readings] == [0, 3, 6]
    assert result.probe_seconds == 3 * READING
    assert result.checkpoint_seconds == WRITING
    # what the host does between two steps hides behind the optimizer, except where something was waited for
    visible = 2 * HOST
    assert result.seconds == 6 * (BACKWARD + OPTIMIZER) + visible
    tokens = [each["tokens"] for each in records(tmp_path)]
    taken = tokens[1] - tokens[0]
    assert records(tmp_path)[1]["tokens_per_second"] == taken / (BACKWARD + OPTIMIZER)


def test_the_gpu_is_waited_for_only_where_something_is_read_or_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(monkeypatch)
    run(
        tiny_model, tmp_path, with_checkpoints(every=4, mode="blocking"), probes=tiny_probes(tiny_model, 0, 3)
    )
    readings, checkpoints, end = 3, 1, 1
    assert gpu.waits == 2 * readings + checkpoints + end
