"""A sample of the fault cases on every change; `benchmarks/faults.py` runs all of them, and kills."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from faults.cases import cases, faults
from faults.workspace import write_finished_workspace

SEED = 5
SAMPLE = 24


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_workspace(tmp_path_factory.mktemp("faults") / "finished")


def test_damaged_inputs_are_refused_in_one_message(finished: Path, tmp_path: Path) -> None:
    wrong = {}
    for number, case in enumerate(random.Random(SEED).sample(cases(SEED), SAMPLE)):
        found = faults(case, finished, tmp_path / str(number), patience=6)
        if found:
            wrong[case.name] = found
    assert wrong == {}
