"""A sweep that is killed at random ends with the page of one that was not; shared stages are made once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import forked_runs
import pytest

from cpt.recipe.journal import find_run
from cpt.sweep import run as running
from cpt.sweep.estimates import Estimates
from cpt.sweep.factors import Factor
from cpt.sweep.page import render
from cpt.sweep.process import Execution
from cpt.sweep.result import result_of
from cpt.sweep.run import sweep
from cpt.sweep.state import SweepFile, SweepRequest, read_sweep

PEAKS, SEEDS = (1e-4, 3e-4, 1e-3), (17, 18)


def request(recipe_file: Path, seconds: float | None) -> SweepRequest:
    factor = Factor(key="pretrain.schedule.peak", levels=PEAKS)
    return SweepRequest(
        name="sweep", recipe=str(recipe_file), factors=(factor,), seeds=SEEDS, seconds=seconds
    )


def page(file: SweepFile) -> str:
    """Return the page without times."""
    timeless = [trial.model_copy(update={"seconds": 0.0}) for trial in file.trials]
    return render(result_of(file.model_copy(update={"trials": tuple(timeless)}), "2026-01-01T00:00:00"))


def corpora(runs: Path) -> set[int]:
    """Return the different files in which the runs have their corpora."""
    found = [find_run(runs, f"sweep-p0{n}-s{s}").finished()["corpus"] for n in (1, 2, 3) for s in SEEDS]
    return {(each.path("corpus") / "content.txt").stat().st_ino for each in found}


@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_a_sweep_killed_at_random_ends_with_the_same_page(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    """Two kills of the sweep alone: its run goes on, and the next command waits for it; one of both."""
    monkeypatch.setattr(
        running._Sweep,
        "_measure",
        lambda *_: Estimates(seconds={str(n): {"pretrain": 1.0} for n in (1, 2, 3)}),
    )
    made = recipe_file.parent / "made.txt"
    forked_runs.replace_processes(monkeypatch, made)
    asked, whole = request(recipe_file, seconds), Execution(recipe_file.parent / "whole")
    expected = sweep(asked, whole)
    stages = Counter(name.rpartition("-")[0] for name in made.read_text().split())
    assert stages.total() == len(SEEDS) + len(PEAKS) * len(SEEDS)  # one corpus for all peaks of a seed
    assert len(corpora(whole.runs)) == len(SEEDS)

    killed = Execution(recipe_file.parent / "killed")
    delays = random.Random(23)
    for kill in (os.kill, os.killpg, os.kill):
        pid = forked_runs.fork(lambda: _sweep(asked, killed))
        time.sleep(delays.uniform(0.1, 0.6))
        kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ended = sweep(asked, killed)
    assert page(ended) == page(expected)
    assert page(read_sweep(killed.runs / "sweep")) == page(expected)
    assert len(corpora(killed.runs)) == len(SEEDS)


def _sweep(asked: SweepRequest, execution: Execution) -> None:
    os.setpgrp()
    sweep(asked, execution)
