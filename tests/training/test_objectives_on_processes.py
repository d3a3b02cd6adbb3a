"""Objectives, pull and averages on two gloo processes: the same as on one, also where weights are divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import several
import torch
from alm_runs import Documents, aligned
from several import FSDP2, facts, weights
from tiny import write_tiny_model
from tiny_runs import SETTINGS, records
from tiny_runs import run as run_alone

ALIGNED = {"micro_batch": 1, "objective": {"kind": "alm", "cross_entropy": 0.1}}
CONSTRAINED = {"micro_batch": 1, "objective": {"kind": "self-constraint", "weight": 0.5}}
PULLED = {"l2_sp": {"strength": 20}, "average": {"kind": "ema", "decay": 0.7}}
LATEST = {"average": {"kind": "lawa", "every": 2, "last": 2}, "checkpoint": {"every": 2, "mode": "blocking"}}
JOBS: dict[str, dict[str, Any]] = {
    "constrained": {"settings": CONSTRAINED, "also": True},
    "aligned": {"settings": ALIGNED, "also": True, "teacher": ""},
    "pulled": {"settings": PULLED, "also": True},
    "sharded-pulled": {"settings": PULLED, "environment": FSDP2},
    "sharded-latest": {"settings": LATEST, "environment": FSDP2},
    "sharded-half": {"settings": LATEST, "stop": 5, "environment": FSDP2},
    "sharded-rest": {"settings": LATEST, "work": "sharded-half", "environment": FSDP2},
    "sharded-constrained": {"settings": CONSTRAINED, "environment": FSDP2},
    "sharded-aligned": {"settings": ALIGNED, "environment": FSDP2, "teacher": ""},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with another tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("teacher") / "model", seed=3, vocabulary=360)


@pytest.fixture(scope="module")
def done(tiny_model: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have done all jobs."""
    jobs = {name: job | ({"teacher": str(teacher)} if "teacher" in job else {}) for name, job in JOBS.items()}
    return several.run_in(tmp_path_factory.mktemp("two"), tiny_model, jobs)


@pytest.mark.parametrize("name", ["constrained", "aligned", "pulled", "sharded-pulled", "sharded-latest"])
def test_two_processes_train_as_one_does(
    done: Path, tiny_model: Path, teacher: Path, tmp_path: Path, name: str
) -> None:
    settings = SETTINGS.with_changes(**several.changed(JOBS[name]["settings"]))
    taught = {}
    if "teacher" in JOBS[name]:
        taught = {"teacher": aligned(tiny_model, teacher), "stream": Documents(tiny_model)}
    alone, _, _ = run_alone(tiny_model, tmp_path, settings, **taught)
    for key, found in weights(done, name).items():
        torch.testing.assert_close(found, alone[key], atol=2e-4, rtol=1e-3)
    last, expected = records(done / "work" / name)[-1], records(tmp_path)[-1]
    assert last["loss_nats"] == pytest.approx(expected["loss_nats"], rel=1e-4)
    assert last.get("loss_parts", {}) == pytest.approx(expected.get("loss_parts", {}), rel=1e-3)


@pytest.mark.parametrize("name", ["constrained", "aligned", "pulled"])
def test_replicas_stay_equal_to_the_last_bit(done: Path, name: str) -> None:
    first, second = weights(done, name), weights(done, name, 1)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_divided_average_continues_as_if_it_had_not_been_stopped(done: Path) -> None:
    whole, rest = weights(done, "sharded-latest"), weights(done, "sharded-rest")
    assert all(torch.equal(whole[key], rest[key]) for key in whole)
    readings = [
        [reading["value"] for reading in facts(done, name)["readings"]]
        for name in ("sharded-latest", "sharded-rest")
    ]
    assert readings[0] == readings[1]


@pytest.mark.parametrize("name", ["sharded-constrained", "sharded-aligned"])
def test_a_model_to_compare_with_is_refused_where_weights_are_divided(done: Path, name: str) -> None:
    for rank in (0, 1):
        assert "FSDP2 shards them" in (done / f"{name}-{rank}.txt").read_text()
