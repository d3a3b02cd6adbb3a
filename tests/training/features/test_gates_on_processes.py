"""Gates on two processes: both act alike, and as one does alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import several
import torch
from gated import BACK, END, MORE, SLOWER, Phased, forgetting
from several import facts, weights
from tiny_runs import SETTINGS, run

CHOSEN: dict[str, Any] = {"steps": 24, "checkpoint": {"every": 3}}
JOBS: dict[str, dict[str, Any]] = {
    "both": {"gates": [MORE, SLOWER]},
    "stop": {"gates": [END]},
    "back": {"gates": [BACK]},
    "half": {"gates": [MORE, SLOWER]},
    "rest": {"gates": [MORE, SLOWER]},
}
"""`rest` goes on where `half` was stopped."""


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have done all jobs."""
    jobs = {name: {"gated": True, "also": True, "settings": CHOSEN | job} for name, job in JOBS.items()}
    jobs["half"]["stop"] = 14
    jobs["rest"]["work"] = "half"
    return several.run_in(tmp_path_factory.mktemp("gated"), tiny_model, jobs)


@pytest.mark.parametrize("name", ["both", "stop", "back", "rest"])
def test_two_processes_act_alike_and_as_one_alone(
    done: Path, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    main, other = facts(done, name, 0), facts(done, name, 1)
    assert main["actions"]
    told = ("actions", "phases", "ended", "ledger")
    assert {key: main[key] for key in told} == {key: other[key] for key in told}
    settings = SETTINGS.with_changes(**several.changed(CHOSEN | JOBS[name]))
    expected, alone, _ = run(tiny_model, tmp_path, settings, stream=Phased(), probes=forgetting(tiny_model))
    assert main["ledger"] == alone.ledger
    assert [tuple(phase) for phase in main["phases"]] == alone.phases
    done_by = [
        [(act["step"], act["action"], act["from"], act["to"]) for act in acts]
        for acts in (main["actions"], alone.actions)
    ]
    assert done_by[0] == done_by[1]
    read = [
        [(reading["step"], reading["probe"]) for reading in found]
        for found in (main["readings"], other["readings"], [each.as_json() for each in alone.readings])
    ]
    assert read[0] == read[1] == read[2]
    found = weights(done, name)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-3)


def test_a_run_that_goes_on_ends_with_the_same_bits(done: Path) -> None:
    expected, found = weights(done, "both"), weights(done, "rest")
    assert all(torch.equal(found[key], value) for key, value in expected.items())
