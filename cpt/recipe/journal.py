"""Write and read `run.json`, the state of a run: kept up to date while it runs, read by `cpt status`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt import __version__
from cpt.errors import DamagedFile, UsageError, did_you_mean
from cpt.escaping import escape_controls
from cpt.json_file import read_plain, write_json
from cpt.recipe.events import EtaEstimator, Event, RunEnded, StageAdvanced, StageEnded, StageStarted
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Record, Store

FILE = "run.json"

StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunFilePart(BaseModel):
    """Base of the parts of `run.json`; other versions may write more fields."""

    model_config = ConfigDict(frozen=True, extra="allow")


class StageState(RunFilePart):
    """The state of a stage. Its fingerprint is part of a folder's name."""

    kind: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
    state: str
    seconds: Seconds | None = None
    gate: str = ""
    gate_verdict: str = ""


class StageProgressState(RunFilePart):
    """The last progress of a stage."""

    stage: str
    done: int
    total: int
    unit: str
    facts: dict[str, float] = {}
    seconds_left: float | None = None


class RecipeData(RunFilePart):
    """The data of a recipe. The settings of its stages are checked where they are used."""

    name: str = ""
    base: str = ""
    seed: int = 0
    stages: list[str | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]] = []


class RunFile(RunFilePart):
    """The content of `run.json`."""

    state: Literal["running", "finished", "failed", "interrupted"]
    stages: dict[StageName, StageState] = {}
    recipe: RecipeData | None = None
    started: str | None = None
    finished: str | None = None
    seconds: Seconds | None = None
    error: str | None = None
    progress: StageProgressState | None = None
    versions: dict[str, str] = {}


_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "mergekit", "lm_eval", "numpy")
_SECONDS_BETWEEN_UPDATES = 5.0
_DAMAGED = "The next `cpt run` of its recipe writes the file again; finished results are kept."


def versions() -> dict[str, str]:
    """Return versions of cpt, Python, the platform and the libraries that affect results, importing none."""
    found = {"cpt": __version__, "python": python_version(), "platform": platform()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time in UTC, to the microsecond, in a form that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Journal:
    """A listener that writes `run.json` at every change of state, and every few seconds between."""

    def __init__(self, folder: Path, recipe: Recipe, stages: Mapping[str, dict[str, Any]]) -> None:
        """Begin the file.

        Args:
            stages: By name, how each stage stands before the run begins (`StageState`).
        """
        self._file = folder / FILE
        self._written = 0.0
        self._eta = EtaEstimator()
        self._data: dict[str, Any] = {
            "name": recipe.name,
            "recipe_file": str(recipe.file.absolute()),
            "overrides": list(recipe.overrides),
            "recipe": recipe.data,
            "state": "running",
            "started": now(),
            "finished": None,
            "seconds": None,
            "error": None,
            "progress": None,
            "versions": versions(),
            "stages": dict(stages),
        }
        self._write()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage):
                self._eta = EtaEstimator()
                self._stage(stage, state="running")
                self._written = 0.0  # the stage's first progress is written at once
            case StageEnded(stage=stage, outcome=outcome, seconds=seconds, gate=gate, verdict=verdict):
                if outcome == "finished":
                    self._data["progress"] = None
                self._stage(stage, state=outcome, seconds=round(seconds, 3), gate=gate, gate_verdict=verdict)
            case StageAdvanced():
                self._eta.update(event)
                self._data["progress"] = vars(event) | {"seconds_left": self._eta.seconds_left}
                if time.monotonic() - self._written > _SECONDS_BETWEEN_UPDATES:
                    self._write()
            case RunEnded(outcome=outcome, seconds=seconds):
                self._data |= {"state": outcome, "finished": now(), "seconds": round(seconds, 3)}
                self._write()

    def fail(self, message: str) -> None:
        """Note why the run stops; the `RunEnded` that follows writes it."""
        self._data["error"] = escape_controls(message)

    def _stage(self, stage: str, **facts: Any) -> None:
        if stage in self._data["stages"]:
            self._data["stages"][stage] |= facts
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        with suppress(OSError):  # a full disk must not hide the error that it causes in a stage
            write_json(self._file, self._data)


@dataclass(frozen=True)
class Run:
    """A run on the disk.

    Attributes:
        data: Content of its `run.json`; empty if that is damaged.
        problem: Reason why `run.json` cannot be read; empty if it can.
    """

    folder: Path
    data: dict[str, Any]
    problem: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def store(self) -> Store:
        return Store(self.folder)

    @property
    def state(self) -> str:
        """The state in `run.json`, or `killed` for a `running` run that no process holds, or `damaged`."""
        if self.problem:
            return "damaged"
        state = str(self.data.get("state"))
        return "killed" if state == "running" and not self.store.locked() else state

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The state of each stage by name, as the last command left it."""
        return dict(self.data.get("stages", {}))

    def finished(self) -> dict[str, Record]:
        """Return the finished results that the run's last command used or made, by stage, in order."""
        found = {name: self.store.find(name, stage["fingerprint"]) for name, stage in self.stages.items()}
        return {name: record for name, record in found.items() if record is not None}


def runs(root: Path) -> list[Run]:
    """Return all runs under a folder, the newest first, damaged ones last."""
    folders = list(root.iterdir()) if root.is_dir() else []
    found = [run for run in map(_read, folders) if run is not None]
    return sorted(found, key=lambda run: str(run.data.get("started") or ""), reverse=True)


def look_up(root: Path, name: str | None = None) -> Run:
    """Return a run by its name under `root` or by its folder, also a damaged one; without a name the newest.

    Raises:
        UsageError: There is none.
    """
    found = runs(root)
    if name is None:
        if found:
            return found[0]
        raise UsageError(
            f"there is no run in {root}", hint="`cpt run RECIPE` makes one; --runs DIR looks elsewhere."
        )
    for run in found:
        if run.name == name:
            return run
    named = _read(Path(name))
    if named is not None:
        return named
    hint = did_you_mean(name, [run.name for run in found])
    raise UsageError(f"there is no run `{name}` in {root}", hint=hint)


def find_run(root: Path, name: str | None = None) -> Run:
    """Return a readable run by its name under `root` or by its folder; without a name the newest.

    Raises:
        UsageError: There is none.
        DamagedFile: Its `run.json` is damaged.
    """
    found = look_up(root, name)
    if found.problem:
        raise DamagedFile(found.folder / FILE, found.problem, hint=_DAMAGED)
    return found


def _read(folder: Path) -> Run | None:
    """Return the run of a folder, or None if the folder holds none."""
    path = folder / FILE
    try:
        if not path.exists():
            return None
        return Run(folder, read_plain(path, RunFile))
    except DamagedFile as error:
        return Run(folder, {}, error.reason)
    except (OSError, ValueError):  # no permission to look, or no possible path
        return None
