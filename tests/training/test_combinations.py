"""Every feature gives the same losses on one process, on two replicas, and on two that shard the weights.

And a run goes on with another number of processes: sharded weights on one process, and one process's sharded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import several
import torch
from alm_runs import Documents, aligned
from combinations import CASES, Case, settings_of
from compiling import emulated_float8, without_kernels
from doc_pages import script
from gated import Phased, forgetting
from several import FSDP2, HSDP, facts, weights
from tiny import write_tiny_model
from tiny_runs import records, run

HYBRID = [name for name, case in CASES.items() if case.hybrid]
"""Cases that four processes go on with."""

PARTS = ("replicas", "first", "rest")
"""Jobs of a case: all steps; the first steps sharded; sharded steps after the first ones on one process."""


def alone(
    case: Case, model: Path, teacher: Path, work: Path, *, half: bool = False, rest: bool = False
) -> Any:
    """All steps on one process, the first, or those that are left."""
    more: dict[str, Any] = {}
    if case.gated:
        more = {"stream": Phased(), "probes": forgetting(model)}
    elif case.teacher == "aligned":
        more = {"stream": Documents(model), "teacher": aligned(model, teacher)}
    elif case.teacher:
        more = {"teacher": teacher}
    with several.spoilt(None if rest else case.spoilt):
        return run(model, work, settings_of(case), case.half if half else None, **more)


def jobs(name: str, case: Case, teacher: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of two processes for a case."""
    common: dict[str, Any] = {"settings": case.settings, "gated": case.gated}
    if case.teacher:
        common["teacher"] = str(teacher)
    return {
        f"{name}-replicas": common | {"also": True, "spoilt": case.spoilt},
        f"{name}-first": common | {"environment": FSDP2, "stop": case.half, "spoilt": case.spoilt},
        f"{name}-rest": common | {"environment": FSDP2},
    }


@pytest.fixture(scope="module", autouse=True)
def _no_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        without_kernels(patch)
        emulated_float8(patch)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with another tokenizer of the same size."""
    return write_tiny_model(tmp_path_factory.mktemp("teacher") / "model", seed=3)


@pytest.fixture(scope="module")
def done(tiny_model: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have done all jobs, the rest where one process was interrupted."""
    folder, everything = tmp_path_factory.mktemp("two"), {}
    for name, case in CASES.items():
        with pytest.raises(KeyboardInterrupt):
            alone(case, tiny_model, teacher, folder / "work" / f"{name}-rest", half=True)
        everything |= jobs(name, case, teacher)
    several.run_in(folder, tiny_model, everything)
    for name in HYBRID:
        shutil.copytree(folder / "work" / f"{name}-first", folder / "work" / f"{name}-hybrid")
    return folder


@pytest.fixture(scope="module")
def four(done: Path, tiny_model: Path, teacher: Path) -> Path:
    """The same folder, when four processes (two replicas of two shards) have gone on with some runs."""
    some = {
        f"{name}-hybrid": jobs(name, CASES[name], teacher)[f"{name}-rest"] | {"environment": HSDP}
        for name in HYBRID
    }
    return several.run_in(done, tiny_model, some, count=4)


@pytest.mark.parametrize("name", CASES)
def test_losses_are_those_of_one_process(
    done: Path, tiny_model: Path, teacher: Path, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    expected, result, _ = alone(case, tiny_model, teacher, tmp_path)
    after_sharded, _, said = alone(case, tiny_model, teacher, done / "work" / f"{name}-first", rest=True)
    assert any(message.startswith("continues after step") for message in said)
    ended = {"first": after_sharded} | {
        part: weights(done, f"{name}-{part}") for part in ("replicas", "rest")
    }
    for part in PARTS:
        found, wanted = records(done / "work" / f"{name}-{part}"), records(tmp_path)
        assert [each["step"] for each in found] == [each["step"] for each in wanted]
        losses, expected_losses = ([each["loss_nats"] for each in steps] for steps in (found, wanted))
        number = case.spoilt or 0
        if number:
            assert losses.pop(number - 1) is expected_losses.pop(number - 1) is None
        assert losses == pytest.approx(expected_losses, rel=case.rounding), part
        for one, other in zip(found, wanted, strict=True):
            assert one.get("loss_parts", {}) == pytest.approx(other.get("loss_parts", {}), rel=1e-2, abs=1e-5)
        for key, value in expected.items():
            torch.testing.assert_close(ended[part][key], value, atol=case.weights, rtol=1e-3)
    for part in ("replicas", "rest"):
        told = facts(done, f"{name}-{part}")
        assert told["ledger"] == result.ledger
        assert [(each["step"], each["probe"]) for each in told["readings"]] == [
            (reading.step, reading.probe) for reading in result.readings
        ]
        assert [each["value"] for each in told["readings"]] == pytest.approx(
            [reading.value for reading in result.readings], rel=20 * case.rounding
        )
        assert [(each["step"], each["action"]) for each in told["actions"]] == [
            (each["step"], each["action"]) for each in result.actions
        ]
        assert [each["step"] for each in told["anomalies"]] == [each["step"] for each in result.anomalies]


@pytest.mark.parametrize("name", HYBRID)
def test_replicas_of_shards_go_on_with_what_two_processes_began(
    four: Path, tiny_model: Path, teacher: Path, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    expected, result, _ = alone(case, tiny_model, teacher, tmp_path)
    found, wanted = (
        [each["loss_nats"] for each in records(w)] for w in (four / "work" / f"{name}-hybrid", tmp_path)
    )
    if case.spoilt:
        assert found.pop(case.spoilt - 1) is wanted.pop(case.spoilt - 1) is None
    assert found == pytest.approx(wanted, rel=case.rounding)
    assert facts(four, f"{name}-hybrid")["ledger"] == result.ledger
    for key, value in expected.items():
        torch.testing.assert_close(weights(four, f"{name}-hybrid")[key], value, atol=case.weights, rtol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_replicas_stay_equal_to_the_last_bit(done: Path, name: str) -> None:
    first, second = (weights(done, f"{name}-replicas", rank) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_cases_have_what_they_are_for(done: Path) -> None:
    ended = facts(done, "stop-rest")["ended"]
    assert (ended["action"], ended["step"], ended["result_step"]) == ("stop", 6, 2)
    assert "roll-back" in [each["action"] for each in facts(done, "back-rest")["actions"]]
    (anomaly,) = facts(done, "galore-rest")["anomalies"]
    assert (anomaly["step"], anomaly["back_to"]) == (2, 0)


def test_the_table_of_the_page_is_up_to_date() -> None:
    table = script("several_processes")
    assert table.PAGE.read_text() == table.page(), "run python docs/several_processes.py"
