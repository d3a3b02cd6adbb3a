"""Trackers: the training log also in TensorBoard, trackio, Weights & Biases or MLflow, through accelerate.

The log on the disk (`steps.jsonl`) does not depend on them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from cpt.atomic import write_text
from cpt.errors import DamagedFile, StageFailed
from cpt.json_file import read_json

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
    """Which trackers a run has, and what it is called there.

    Attributes:
        project: groups runs in a tracker that has groups.
        run: beginning of the run's name; a random part follows.
        settings: shown with the run.
    """

    names: tuple[TrackerName, ...] = ()
    project: str = "cpt"
    run: str = "pretrain"
    settings: Mapping[str, Any] = field(default_factory=dict)


def missing(names: Iterable[TrackerName]) -> list[TrackerName]:
    """The trackers whose package is not installed. Imports nothing."""
    return [name for name in names if not any(_installed(package) for package in _PACKAGES[name])]


class Trackers:
    """Open trackers. One that fails during training is named once and left: it must not end a run."""

    def __init__(self, trackers: Iterable[Any] = (), say: Callable[[str], None] = print) -> None:
        self._trackers, self._say = list(trackers), say

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Enter the values of an optimizer step (1 is the first; 0 is before it); nested ones as "a/b"."""
        shown = {name: value for name, value in _by_path(values) if name != "step"}
        self._each("is left", lambda tracker: tracker.log(shown, step=step))

    def close(self) -> None:
        """Mark the run as finished. One that failed is not closed: its trackers see that it broke off."""
        self._each("did not close", lambda tracker: tracker.finish())
        self._trackers = []

    def _each(self, consequence: str, do: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except Exception as error:  # whatever a service's client raises
                self._trackers.remove(tracker)
                self._say(f"{tracker.name} {consequence}: {type(error).__name__}: {error}")


def open_trackers(tracking: Tracking, folder: Path, step: int, say: Callable[[str], None]) -> Trackers:
    """Start the trackers, on the main process only; a run that continues goes on in the same tracker run.

    TensorBoard forgets what was logged after `step`, W&B ignores what it has already; trackio and MLflow
    show the steps between the checkpoint and the kill twice.

    Args:
        folder: where the run's identity in the trackers and TensorBoard's files are kept.
        step: steps done already.

    Raises:
        StageFailed: a tracker cannot start.
    """
    if not tracking.names:
        return Trackers()
    from accelerate.state import PartialState

    if not PartialState().is_main_process:
        return Trackers()
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(folder, tracking.run)
    trackers = [_start(name, tracking, folder, step, identity) for name in dict.fromkeys(tracking.names)]
    write_text(folder / _IDENTITY, json.dumps(identity))
    return Trackers(trackers, say)


def _identity(folder: Path, run: str) -> dict[str, str]:
    """What the run is called in the trackers: the same after every kill."""
    try:
        return dict(read_json(folder / _IDENTITY, dict[str, str]))
    except DamagedFile:
        return {"run": f"{run}-{uuid.uuid4().hex[:8]}"}


def _start(name: str, tracking: Tracking, folder: Path, step: int, identity: dict[str, str]) -> Any:
    """One of accelerate's trackers, started; notes its identity, and shows the settings the first time."""
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
    """Settings as trackers take them: numbers and texts; what is nested as JSON."""
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
