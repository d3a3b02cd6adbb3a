"""A sample of the fault cases on every change; `benchmarks/faults.py` runs all of them, and kills."""

from __future__ import annotations

import random
from pathlib import Path

from faults.cases import cases, faults

SEED = 5
SAMPLE = 24


def test_damaged_inputs_are_refused_in_one_message(finished_workspace: Path, tmp_path: Path) -> None:
    wrong = {}
    for number, case in enumerate(random.Random(SEED).sample(cases(SEED), SAMPLE)):
        found = faults(case, finished_workspace, tmp_path / str(number), patience=6)
        if found:
            wrong[case.name] = found
    assert wrong == {}
