"""A run with all that a checkpoint can hold is stopped, and goes on with other numbers of processes.

In no process is a sharded tensor whole when the run saves, goes on, or goes back.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import several
import torch
from combinations import settings_of
from gated import Phased, forgetting
from several import FSDP2, HSDP
from tiny_runs import records, run

from cpt.training.checkpoint.store import LAST_GOOD, Store

SETTINGS: dict[str, Any] = {
    "steps": 12,
    "checkpoint": {"every": 3, "keep": 9},
    "average": {"kind": "lawa", "every": 1, "last": 2},
    "anomalies": {"not_finite": "roll-back", "snapshot_every": 2},
    "gates": [{"limit": "general <= +9", "action": action} for action in ("stop", "roll-back")],
}
SHARDED = {"settings": SETTINGS, "gated": True, "environment": FSDP2, "by_shard": True}


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which four processes (two replicas of two shards) began a run; two and four went on."""
    folder = tmp_path_factory.mktemp("shards")
    work = folder / "work" / "run"

    def sharded(count: int, name: str, **more: Any) -> None:
        several.run_in(folder, tiny_model, {name: SHARDED | {"work": "run"} | more}, count)
        shutil.copytree(work, folder / "after" / name)

    sharded(4, "first", stop=5, environment=HSDP)
    sharded(2, "second", stop=8, spoilt=1)  # step 4, after which the weights are those of step 2
    sharded(4, "third", stop=11)
    return folder


def test_a_run_goes_on_from_four_processes_to_two_to_four_and_to_one(
    done: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings, more = settings_of(SETTINGS), {"stream": Phased(), "probes": forgetting(tiny_model)}
    with several.spoilt(4):
        expected, result, _ = run(tiny_model, tmp_path, settings, **more)
    found, ended, said = run(tiny_model, done / "work" / "run", settings, **more)
    assert said[0].startswith("continues after step 9")
    losses, wanted = ([each["loss_nats"] for each in records(w)] for w in (done / "work" / "run", tmp_path))
    assert losses.pop(3) is wanted.pop(3) is None
    assert len(losses) == 11
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert ended.ledger == result.ledger
    (anomaly,) = ended.anomalies
    assert (anomaly["step"], anomaly["back_to"]) == (4, 2)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "step", "count"), [("first", 3, 2), ("second", 6, 2), ("third", 9, 4)])
def test_each_shard_is_in_one_file(done: Path, name: str, step: int, count: int) -> None:
    folder = Store(done / "after" / name, 9).path(step)
    files = json.loads((folder / "checkpoint.json").read_text())["files"]
    assert len([file for file in files if file.startswith("shard-")]) == count
    if step % 2:
        assert len([file for file in files if file.startswith(f"{LAST_GOOD}/shard-")]) == count
    index = json.loads((folder / "tensors.json").read_text())
    points = {key.split("/")[0] for key in index["gates"]}
    assert points == {"best", "good"}
    sizes = [path.stat().st_size for path in sorted(folder.glob("shard-*"))]
    assert max(sizes) < 1.5 * sum(sizes) / count
