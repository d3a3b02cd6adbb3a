"""Killed at random moments, as often as one likes, a run ends with the weights of an undisturbed one."""

from pathlib import Path

import pytest
from killing import kill_until, settings
from several import FSDP2


@pytest.mark.parametrize("mode", ["blocking", "async"])
def test_kill_9_at_random_moments(tiny_model: Path, tmp_path: Path, mode: str) -> None:
    outcome = kill_until(tiny_model, tmp_path, settings(mode, steps=24), kills=3, seed=11)
    assert outcome.kills == 3
    assert outcome.resumed >= 1
    assert outcome.equal == outcome.runs >= 1


def test_kill_9_of_processes_that_write_shards(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings("async", steps=12)
    outcome = kill_until(tiny_model, tmp_path, chosen, kills=2, seed=5, counts=(2,), environment=FSDP2)
    assert outcome.kills == 2
    assert outcome.equal == outcome.runs >= 1
