"""Going on: from the newest readable checkpoint, in either mode, and only as the run began."""

import json
import os
import threading
from pathlib import Path

import pytest
import several
import torch
from tiny_runs import SETTINGS, Batches, PlainRun, equal, run, tiny_probes, with_checkpoints
from tiny_training import checkpoint_manager
from torch import nn

from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint import store as folders
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import WeightState
from cpt.training.checkpoint.store import Store
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.optimizers import AdamW
from cpt.training.schedules import RewarmCosine
from cpt.training.settings import Settings
from cpt.training.state import State

MODES = pytest.mark.parametrize("mode", ["blocking", "async"])


def kill(tiny_model: Path, work: Path, step: int, settings: Settings = SETTINGS) -> None:
    """Run until a step is logged, and die."""
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, work, settings, die_at=step)


def numbers(snapshot: Snapshot) -> list[float]:
    """The numbers that the only weight of a snapshot has."""
    unique: list[float] = snapshot.tensors["weights"]["weight"].clone().unique().tolist()
    return unique


@MODES
def test_both_modes_write_the_same_checkpoints_and_weights(
    tiny_model: Path, tmp_path: Path, mode: str, plain_run: PlainRun
) -> None:
    expected = plain_run.weights
    weights, _, _ = run(tiny_model, tmp_path / "run", with_checkpoints(every=2, keep=9, mode=mode))
    assert equal(weights, expected)
    assert Store(tmp_path / "run", 9).steps() == [4, 2]
    kill(tiny_model, tmp_path / "other", 5, with_checkpoints(mode="blocking"))
    ours, _ = Store(tmp_path / "run", 9).newest()
    theirs, _ = Store(tmp_path / "other", 9).newest()
    for part in ("weights", "optimizer", "random"):
        for key, tensor in ours[""].tensors[part].items():
            assert torch.equal(tensor.clone(), theirs[""].tensors[part][key].clone()), key


def test_what_changes_right_after_an_async_save_begins_is_not_in_it(tmp_path: Path, monkeypatch) -> None:
    torch.manual_seed(0)
    module = nn.Linear(50, 40)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    parts, state, gate = (
        {"weights": WeightState(dict(module.named_parameters()), lambda: None)},
        State(),
        threading.Event(),
    )
    save = Store.save
    monkeypatch.setattr(Store, "save", lambda *given: (gate.wait(10), save(*given))[1])
    manager = checkpoint_manager(tmp_path, parts, state, SETTINGS)
    with manager.open():
        manager.resume()
        manager.save(in_background=True)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(-1.0)
        assert not list(tmp_path.glob("step-*"))
        gate.set()
    found, _ = Store(tmp_path, 1).newest()
    saved = found[""].tensors["weights"]
    assert all(torch.equal(saved[name].clone(), value) for name, value in before.items())


def test_a_second_async_save_waits_for_the_first_and_neither_is_spoilt(tmp_path: Path) -> None:
    module = nn.Linear(300, 300)
    parts, state = {"weights": WeightState(dict(module.named_parameters()), lambda: None)}, State()
    manager = checkpoint_manager(tmp_path, parts, state, with_checkpoints(keep=5, mode="async"))
    with manager.open():
        manager.resume()
        for step in range(1, 6):
            state.step = step
            with torch.no_grad():
                module.weight.fill_(step)
            manager.save(in_background=True)
    store = Store(tmp_path, 5)
    for step in range(1, 6):
        assert numbers(folders.read(store.path(step))[""]) == [step]


def test_the_last_good_snapshot_is_not_spoilt_while_checkpoints_are_written(tmp_path: Path) -> None:
    """Snapshots after even steps, checkpoints after all of them, and a roll-back after each odd one."""
    module = nn.Linear(100, 100)
    parts, state = {"weights": WeightState(dict(module.named_parameters()), lambda: None)}, State()
    settings = SETTINGS.with_changes(
        steps=100,
        checkpoint=Checkpoints(every=1, keep=50, mode="async"),
        anomalies=Anomalies(not_finite="roll-back", snapshot_every=2),
    )
    manager = checkpoint_manager(tmp_path, parts, state, settings)
    with manager.open():
        manager.resume()
        for step in range(1, 20):
            state.step = step
            with torch.no_grad():
                module.weight.fill_(step)
            manager.after_step(manager._run, None)  # type: ignore[arg-type]
            if step % 2:
                assert manager.roll_back() == step - 1
                if step > 1:
                    assert module.weight.unique().tolist() == [step - 1]
    for step in range(2, 20):
        found = folders.read(Store(tmp_path, 50).path(step))
        assert numbers(found[""]) == [step]
        if step % 2:
            assert numbers(found[folders.LAST_GOOD]) == [step - 1]
        else:
            assert set(found) == {""}


@pytest.mark.parametrize("file", ["weights.safetensors", "state.json"])
def test_after_damage_the_run_goes_on_from_the_one_before_and_says_what_is_lost(
    tiny_model: Path, tmp_path: Path, file: str
) -> None:
    settings = with_checkpoints(keep=2)
    expected, _, _ = run(tiny_model, tmp_path / "whole", settings)
    kill(tiny_model, tmp_path / "run", 5, settings)
    (tmp_path / "run/step-000000004" / file).unlink()
    weights, _, messages = run(tiny_model, tmp_path / "run", settings)
    assert messages[:2] == [
        f"the checkpoint of step 4 is unreadable and is removed: {file} is missing",
        "continues after step 2; steps 3 to 5 are run again",
    ]
    assert equal(weights, expected)


def test_without_any_readable_checkpoint_the_run_begins_anew_and_says_so(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    expected = plain_run.weights
    kill(tiny_model, tmp_path / "run", 5)
    for manifest in (tmp_path / "run").glob("step-*/checkpoint.json"):
        manifest.unlink()
    weights, _, messages = run(tiny_model, tmp_path / "run")
    assert messages[2] == "begins anew, without a checkpoint; steps 1 to 5 are run again"
    assert equal(weights, expected)


@pytest.mark.parametrize("left", [0, 1, 200])
def test_a_log_that_has_lost_records_holds_no_others_instead_and_that_is_said(
    tiny_model: Path, tmp_path: Path, left: int
) -> None:
    kill(tiny_model, tmp_path, 5)
    os.truncate(tmp_path / "steps.jsonl", left)
    kept = (tmp_path / "steps.jsonl").read_bytes().count(b"\n")
    _, _, messages = run(tiny_model, tmp_path)
    assert messages[:2] == [
        f"steps.jsonl has lost the records after step {kept}",
        "continues after step 4",
    ]
    steps = [json.loads(line)["step"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert steps == [*range(1, kept + 1), 5, 6]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": RewarmCosine(peak=2e-2, floor=1e-3, warmup=0.3)}, "schedule.peak was 0.01 and is 0.02"),
        ({"optimizer": AdamW(beta2=0.9)}, "optimizer.beta2 was 0.95 and is 0.9"),
        ({"steps": 9}, "steps was 6 and is 9"),
        ({"micro_batch": 2}, "micro_batch was 4 and is 2"),
        ({"clip": 2.0}, "clip was 1.0 and is 2.0"),
        ({"dtype": torch.bfloat16}, "dtype was torch.float32 and is torch.bfloat16"),
        ({"compile": True}, "compile was False and is True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_changes_the_weights_must_be_as_it_was(
    tiny_model: Path, tmp_path: Path, change: dict, says: str
) -> None:
    kill(tiny_model, tmp_path, 3)
    with pytest.raises(StageFailed) as caught:
        run(tiny_model, tmp_path, SETTINGS.with_changes(**change))
    assert says in caught.value.message
    assert len(caught.value.message.split(";")) == 1
    assert (tmp_path / "step-000000002").is_dir()


@pytest.mark.parametrize("action", ["skip", "roll-back"])
def test_a_run_that_a_fault_has_stopped_goes_on_past_it_with_other_faults(
    tiny_model: Path, tmp_path: Path, action: str
) -> None:
    other = SETTINGS.with_changes(anomalies=Anomalies.model_validate({"not_finite": action}))
    with several.spoilt(5), pytest.raises(StageFailed, match="let `anomalies` skip"):
        run(tiny_model, tmp_path / "stopped")
    with several.spoilt(1):
        weights, result, messages = run(tiny_model, tmp_path / "stopped", other)
    with several.spoilt(5):
        expected, _, _ = run(tiny_model, tmp_path / "whole", other)
    assert messages[0] == "continues after step 4"
    assert [(anomaly["step"], anomaly["action"]) for anomaly in result.anomalies] == [(5, action)]
    if action == "skip":
        assert equal(weights, expected)
    assert result.steps == 6


def test_settings_that_cannot_change_the_weights_are_honoured(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    expected = plain_run.weights
    kill(tiny_model, tmp_path / "run", 3)
    changed = SETTINGS.with_changes(checkpoint=Checkpoints(every=1, keep=3, mode="blocking"))
    probes = tiny_probes(tiny_model, 3)
    weights, result, _ = run(tiny_model, tmp_path / "run", changed, probes=probes)
    assert equal(weights, expected)
    assert [reading.step for reading in result.readings] == [0, 1, 2, 3, 6]
    assert Store(tmp_path / "run", 9).steps() == [5, 4, 3]


def test_other_data_are_found_before_training_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    class Other(Batches):
        def batch(self, step: int) -> list:
            return super().batch(step + 1)

    kill(tiny_model, tmp_path, 3)
    with pytest.raises(StageFailed, match="tokens of domain") as caught:
        run(tiny_model, tmp_path, stream=Other())
    assert "not those that the run began with" in str(caught.value)
    steps = [json.loads(line)["step"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]  # a run that cannot continue leaves the log as it was


@MODES
def test_a_full_disk_stops_the_run_and_the_old_checkpoint_stays(
    tiny_model: Path, tmp_path: Path, monkeypatch, mode: str
) -> None:
    settings = with_checkpoints(mode=mode)
    expected, _, _ = run(tiny_model, tmp_path / "whole", settings)
    save_file = folders.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "step-000000004" in str(path):
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(folders, "save_file", full)
    with pytest.raises(DiskFull):
        run(tiny_model, tmp_path / "run", settings)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == ["step-000000002"]
    weights, _, _ = run(tiny_model, tmp_path / "run", settings)
    assert equal(weights, expected)


def test_a_disk_that_is_too_small_is_an_error_before_the_write(
    tiny_model: Path, tmp_path: Path, monkeypatch
) -> None:
    usage = folders.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(folders, "save_file", lambda *_: pytest.fail("it was written"))
    with pytest.raises(DiskFull, match="1,000 are free"):
        run(tiny_model, tmp_path)


@MODES
def test_the_seconds_of_probes_and_checkpoints_are_told(tiny_model: Path, tmp_path: Path, mode: str) -> None:
    _, result, _ = run(tiny_model, tmp_path / "a", with_checkpoints(mode=mode))
    assert min(result.probe_seconds, result.checkpoint_seconds, result.seconds) > 0
    _, result, _ = run(tiny_model, tmp_path / "b", with_checkpoints(every=100), probes=[])
    assert result.probe_seconds == 0


@pytest.mark.parametrize("milestones", [None, 3])
def test_milestones_stay(tiny_model: Path, tmp_path: Path, milestones: int | None) -> None:
    run(tiny_model, tmp_path, with_checkpoints(every=1, keep=1, keep_every=milestones))
    assert Store(tmp_path, 9).steps() == ([5, 3] if milestones else [5])
