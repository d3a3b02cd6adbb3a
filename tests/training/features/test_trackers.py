"""Trackers: TensorBoard for real, the others through accelerate with stand-ins for their packages."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tiny_runs import SETTINGS, PlainRun, equal, run
from tiny_training import scalars

from cpt.errors import StageFailed
from cpt.training.features.trackers import TENSORBOARD, TrackerLogging, TrackerName, Tracking, open_trackers

SHOWN = {"tokens": 600, "schedule": {"kind": "wsd"}, "name": None}
BOARD = SETTINGS.with_changes(trackers=("tensorboard",), tracking=Tracking(settings=SHOWN))


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def test_tensorboard_holds_what_the_log_holds_and_the_weights_are_the_same(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    weights, result, _ = run(tiny_model, tmp_path, BOARD)
    assert equal(weights, plain_run.weights)
    assert not (plain_run.work / TENSORBOARD).exists()
    records = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    shown = scalars(tmp_path / TENSORBOARD)
    for key in ("loss_nats", "lr", "grad_norm", "tokens", "tokens_per_second", "seconds"):
        assert [step for step, _ in shown[key]] == [1, 2, 3, 4, 5, 6]
        assert [value for _, value in shown[key]] == pytest.approx([record[key] for record in records])
    readings = [(reading.step, reading.value) for reading in result.readings]
    assert shown["bits_per_byte/domain"] == [(step, pytest.approx(value)) for step, value in readings]
    assert (readings[0][0], "step" in shown) == (0, False)


@pytest.mark.parametrize("die_at", [1, 5], ids=["no checkpoint", "after one"])
def test_after_a_kill_tensorboard_shows_every_step_once(
    tiny_model: Path, tmp_path: Path, die_at: int
) -> None:
    settings = BOARD
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", settings, die_at=die_at)
    time.sleep(1)  # TensorBoard reads files in the order of their names, which begin with the second
    run(tiny_model, tmp_path / "killed", settings)
    run(tiny_model, tmp_path / "whole", settings)
    killed, whole = (scalars(tmp_path / name / TENSORBOARD) for name in ("killed", "whole"))
    for tag in ("loss_nats", "lr", "bits_per_byte/domain"):
        assert killed[tag] == whole[tag]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand-ins for wandb, trackio and mlflow; every call that reaches them."""
    calls: list[tuple[Any, ...]] = []

    def note(*name: Any, result: Any = None) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            calls.append((*name, *values, options))
            return result

        return call

    for name in ("wandb", "trackio"):
        module = ModuleType(name)
        client = SimpleNamespace(log=note(name, "log"), finish=note(name, "finish"))
        module.init = note(name, "init", result=client)  # type: ignore[attr-defined]
        module.config = SimpleNamespace(update=note(name, "config"))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    mlflow = ModuleType("mlflow")
    started = SimpleNamespace(info=SimpleNamespace(run_id="run-1"))
    limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=100, MAX_PARAMS_TAGS_PER_BATCH=10)
    for name, value in {
        "search_experiments": lambda **_: [],
        "create_experiment": note("mlflow", "experiment", result="7"),
        "start_run": note("mlflow", "start", result=started),
        "log_params": note("mlflow", "config"),
        "log_metrics": note("mlflow", "log"),
        "end_run": note("mlflow", "finish"),
        "utils": SimpleNamespace(validation=limits),
    }.items():
        setattr(mlflow, name, value)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return calls


def of(calls: list[tuple[Any, ...]], *name: str) -> list[tuple[Any, ...]]:
    return [call[2:] for call in calls if call[:2] == name]


SERVICES: tuple[TrackerName, ...] = ("wandb", "trackio", "mlflow")
NAMED = Tracking(project="medical", run="adapt", settings=SHOWN)


def test_services_get_project_settings_and_values(services: Any, tmp_path: Path) -> None:
    trackers = open_trackers(SERVICES, NAMED, tmp_path, 0, Said())
    trackers.log(1, {"step": 1, "lr": 3e-4})
    trackers.close()
    run = json.loads((tmp_path / "trackers.json").read_text())["run"]
    assert run.startswith("adapt-")
    assert of(services, "wandb", "init") == [
        ({"project": "medical", "id": run, "name": run, "resume": "allow"},)
    ]
    assert of(services, "trackio", "init") == [({"project": "medical", "name": run, "resume": "allow"},)]
    ((begun,),) = of(services, "mlflow", "start")
    assert (begun["run_name"], begun["run_id"], begun["experiment_id"]) == (run, None, "7")
    for name in ("wandb", "trackio", "mlflow"):
        ((settings, _),) = of(services, name, "config")
        assert settings == {"tokens": 600, "schedule": '{"kind": "wsd"}'}
        assert of(services, name, "log") == [({"lr": 3e-4}, {"step": 1})]
        assert len(of(services, name, "finish")) == 1


def test_a_run_that_continues_is_the_same_run_there(services: Any, tmp_path: Path) -> None:
    open_trackers(SERVICES, NAMED, tmp_path, 0, Said())
    open_trackers(SERVICES, NAMED, tmp_path, 4, Said())
    first, again = of(services, "wandb", "init")
    assert first == again
    assert [options["run_id"] for (options,) in of(services, "mlflow", "start")] == [None, "run-1"]
    assert len(of(services, "wandb", "config")) == 1
    other = open_trackers(SERVICES, NAMED, tmp_path / "other", 0, Said())
    assert of(services, "wandb", "init")[2] != first
    other.close()


def test_a_tracker_that_fails_in_training_is_named_once_and_left(
    services: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    trackers = open_trackers(SERVICES, NAMED, tmp_path, 0, said)

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", unreachable)
    trackers.log(1, {"lr": 1.0})
    trackers.log(2, {"lr": 2.0})
    assert said == ["mlflow is left: ConnectionError: no route"]
    assert [options["step"] for _, options in of(services, "wandb", "log")] == [1, 2]


def test_a_tracker_that_cannot_start_is_one_clear_error(
    services: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**_: Any) -> None:
        raise PermissionError("log in first")

    monkeypatch.setattr(sys.modules["wandb"], "init", locked)
    with pytest.raises(StageFailed, match="the tracker wandb cannot start: PermissionError: log in first"):
        open_trackers(SERVICES, NAMED, tmp_path, 0, Said())


def test_only_the_main_process_tracks(services: Any, tmp_path: Path) -> None:
    other: Any = SimpleNamespace(processes=SimpleNamespace(is_main=False), state=SimpleNamespace(step=1))
    logging = TrackerLogging(SERVICES)
    logging.on_resume(other)
    logging.after_probes(other, [])
    logging.on_end(other)
    assert services == []
    assert not (tmp_path / "work").exists()


def test_missing_packages_are_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    there = {"tensorboard", "mlflow-skinny"}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    found = TrackerLogging(("tensorboard", "wandb", "mlflow", "trackio")).missing_packages()
    assert [problem.message for problem in found] == [
        "the tracker wandb is not installed",
        "the tracker trackio is not installed",
    ]
