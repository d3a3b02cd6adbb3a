"""Copy the training log to TensorBoard, trackio, Weights & Biases or MLflow, through accelerate.

The log on the disk (`steps.jsonl`) does not depend on them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from cpt.atomic import write_text
from cpt.errors import DamagedFile, Problem, StageFailed
from cpt.json_file import read_json
from cpt.training.feature import Run, StepOutcome, TrainingFeature
from cpt.training.features.step_log import step_record

if TYPE_CHECKING:
    from cpt.monitor.reading import Reading
    from cpt.training.settings import TrainingConfig

TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow"]

TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's event files, beside the log."""

_IDENTITY = "trackers.json"
_PACKAGES: dict[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "mlflow-skinny"),
}


@dataclass(frozen=True)
class Tracking:
    """The names of a run in its trackers.

    Attributes:
        project: name of the group of runs, in a tracker that has groups.
        run: beginning of the run's name; a random part follows.
        settings: settings that trackers show with the run.
    """

    project: str = "cpt"
    run: str = "pretrain"
    settings: Mapping[str, Any] = field(default_factory=dict)


class TrackerLogging(TrainingFeature):
    """The copy of the training log and of all readings in trackers."""

    def __init__(self, names: Sequence[TrackerName]) -> None:
        self._names = names
        self._trackers = Trackers()

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        return cls(config.trackers) if config.trackers else None

    def missing_packages(self) -> list[Problem]:
        """Return a problem for every tracker whose package is not installed here. Import nothing."""
        return [
            Problem(
                f"the tracker {name} is not installed",
                key="trackers",
                hint=f"Install it: pip install 'cpt-workbench[{name}]'",
            )
            for name in self._names
            if not any(_installed(package) for package in _PACKAGES[name])
        ]

    def on_resume(self, run: Run) -> None:
        if run.processes.is_main:
            self._trackers = open_trackers(
                self._names, run.settings.tracking, run.work, run.state.step, run.progress.message
            )

    def after_step(self, run: Run, step: StepOutcome) -> None:
        self._trackers.log(run.state.step, step_record(run, step))

    def after_probes(self, run: Run, readings: Sequence[Reading]) -> None:
        values = {f"{each.unit.replace(' ', '_')}/{each.probe}": each.value for each in readings}
        self._trackers.log(run.state.step, values)

    def on_end(self, run: Run) -> None:  # noqa: ARG002
        self._trackers.close()


class Trackers:
    """Open trackers. One that fails during training is named once and left: it must not end a run."""

    def __init__(self, trackers: Iterable[Any] = (), say: Callable[[str], None] = print) -> None:
        self._trackers, self._say = list(trackers), say

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the values of a step (1 is the first; 0 is before it); nested names become "a/b"."""
        shown = {name: value for name, value in _by_path(values) if name != "step"}
        self._each("is left", lambda tracker: tracker.log(shown, step=step))

    def close(self) -> None:
        """Mark the run as finished. A run that failed is not closed: its trackers show that it broke off."""
        self._each("did not close", lambda tracker: tracker.finish())
        self._trackers = []

    def _each(self, consequence: str, do: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except Exception as error:  # whatever a service's client raises
                self._trackers.remove(tracker)
                self._say(f"{tracker.name} {consequence}: {type(error).__name__}: {error}")


def open_trackers(
    names: Iterable[TrackerName], tracking: Tracking, folder: Path, step: int, say: Callable[[str], None]
) -> Trackers:
    """Start trackers; a run that continues does so in the same tracker run.

    TensorBoard forgets what was logged after `step`, W&B ignores what it has already; trackio and MLflow
    show the steps between the checkpoint and the kill twice.

    Args:
        folder: folder for the run's identity in the trackers and for TensorBoard's files.
        step: number of steps that are done.

    Raises:
        StageFailed: a tracker cannot start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(folder, tracking.run)
    trackers = [_start(name, tracking, folder, step, identity) for name in dict.fromkeys(names)]
    write_text(folder / _IDENTITY, json.dumps(identity))
    return Trackers(trackers, say)


def _identity(folder: Path, run: str) -> dict[str, str]:
    """Return the names of the run in its trackers: the same after every kill."""
    try:
        return dict(read_json(folder / _IDENTITY, dict[str, str]))
    except DamagedFile:
        return {"run": f"{run}-{uuid.uuid4().hex[:8]}"}


def _start(name: str, tracking: Tracking, folder: Path, step: int, identity: dict[str, str]) -> Any:
    """Start one of accelerate's trackers, note its identity, and show the settings the first time."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    run = identity["run"]
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"logging_dir": str(folder), "purge_step": step + 1 if step else 0},
        "trackio": {"name": run, "resume": "allow"},
        "wandb": {"id": run, "name": run, "resume": "allow"},
        "mlflow": {"run_name": run, "run_id": identity.get("mlflow")},
    }
    try:
        project = TENSORBOARD if name == "tensorboard" else tracking.project
        tracker = LOGGER_TYPE_TO_CLASS[name](project, **options[name])
        tracker.start()
        if name not in identity:
            tracker.store_init_configuration(_plain(tracking.settings))
            identity[name] = tracker.tracker.info.run_id if name == "mlflow" else run
    except Exception as error:  # whatever a service's client raises
        raise StageFailed(
            f"the tracker {name} cannot start: {type(error).__name__}: {error}",
            hint="Set it up as its own documentation says, or leave it out of `trackers`.",
        ) from error
    return tracker


def _by_path(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", found) for inner, found in _by_path(value))
        else:
            yield name, value


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as trackers take them: numbers and texts; nested ones as JSON."""
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
        for key, value in settings.items()
        if value is not None
    }


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
