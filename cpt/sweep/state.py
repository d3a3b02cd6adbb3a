"""Keep the state of a sweep: its request and its trials, in `sweep.json`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cpt.errors import UsageError
from cpt.json_file import read_json, read_or_none, write_json
from cpt.monitor.gates.gate import LimitText
from cpt.recipe.journal import FILE as RUN_FILE
from cpt.recipe.journal import RunFile
from cpt.sweep.factors import Factor, Method, Values

FILE = "sweep.json"

TrialState = Literal["waiting", "running", "done", "failed", "left out"]

ENDED: frozenset[TrialState] = frozenset({"done", "failed"})


_ANEW: dict[str, Any] = {"state": "waiting", "seconds": 0.0, "begun": False}
"""Fields of a trial that begins anew."""


class SweepPart(BaseModel):
    """Base of the parts of `sweep.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SweepRequest(SweepPart):
    """The request of a sweep.

    Attributes:
        name: Name of the sweep: its folder, and the beginning of its runs' names.
        recipe: Path of the recipe, absolute.
        overrides: Settings that all runs share.
        factors: Varied settings.
        seeds: Seeds of every configuration.
        method: Choice of the configurations.
        points: Largest number of configurations; None for a complete grid.
        minimize: Measure that is to become small.
        limit: Bound on another measure.
        seconds: Time for all runs together; None without a bound.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]
    method: Method = "grid"
    points: int | None = None
    minimize: str = "domain"
    limit: LimitText | None = None
    seconds: float | None = None

    @property
    def measures(self) -> set[str]:
        """Return the measures that every run must have."""
        return {self.minimize, *([self.limit.probe] if self.limit else [])}

    def settings(self, values: Values) -> list[str]:
        """Return the overrides of a configuration, a key after those that it is inside of, or it is lost.

        Args:
            values: Setting of every factor.
        """
        varied = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        all_of_them = [*self.overrides, *varied]
        keys = [text.partition("=")[0].strip() for text in all_of_them]
        parents = [sum(key.startswith(f"{other}.") for other in keys) for key in keys]
        return [all_of_them[place] for place in sorted(range(len(keys)), key=parents.__getitem__)]


class Trial(SweepPart):
    """One run of a sweep.

    Attributes:
        number: Number of its configuration, from 1.
        values: Setting of every factor.
        run: Name of the run.
        exit_code: Exit code of `cpt run`; 3 and 4 are results with a limit that is broken or not shown.
        seconds: Time of its processes, in all attempts since it failed last.
        begun: Whether its configuration has begun within a time for all runs: then it is finished.
        message: The error of a failed run.
        changes: Change from the base by measure; bits per byte (less is better), shares of right answers.
    """

    number: int
    values: Values
    seed: int
    run: str
    state: TrialState = "waiting"
    exit_code: int | None = None
    seconds: float = 0.0
    begun: bool = False
    message: str = ""
    changes: dict[str, float] = {}


class SweepFile(SweepPart):
    """The content of `sweep.json`.

    Attributes:
        recipe_sha256: Checksum of the recipe's file when its runs were made; with another one they are
            brought up to date.
        elapsed: Seconds that commands have run it, and runs that they left behind.
        left_out: Why trials were left out; empty if none was.
        notes: Warnings of levels that are not trained as they are written.
    """

    version: Literal[1] = 1
    request: SweepRequest
    recipe_sha256: str
    trials: tuple[Trial, ...] = ()
    elapsed: float = 0.0
    left_out: str = ""
    notes: tuple[str, ...] = ()


class SweepState:
    """The trials of a sweep. Every change is written at once."""

    def __init__(self, folder: Path, request: SweepRequest, notes: Sequence[str] = ()) -> None:
        """Begin a sweep, or continue the one in the folder.

        Results of earlier commands are kept for the same values and seeds. So a later command may add values,
        seeds or points. `unsettle` drops those that are no longer up to date.

        Raises:
            DamagedFile: The folder's `sweep.json` is damaged.
            UsageError: It is the sweep of another recipe.
        """
        self._path = folder / FILE
        self.request = request
        self._sha256 = hashlib.sha256(Path(request.recipe).read_bytes()).hexdigest()
        self._earlier: dict[str, Trial] = {}
        self._numbers: dict[str, int] = {}
        self._elapsed_before = 0.0
        self._since: float | None = None
        self.trials: list[Trial] = []
        self.left_out = ""
        self.notes = tuple(notes)
        if self._path.exists():
            self._continue(read_sweep(folder))

    def _continue(self, file: SweepFile) -> None:
        if file.request.recipe != self.request.recipe:
            raise UsageError(
                f"{self._path.parent} is the sweep of {file.request.recipe}",
                hint="Give this one another name: --name NAME.",
            )
        current = file.recipe_sha256 == self._sha256 and file.request.overrides == self.request.overrides
        unwritten = {
            trial.run: _unwritten_seconds(self._path, self._path.parents[1] / trial.run / RUN_FILE)
            for trial in file.trials
            if trial.state
            in ("running", "waiting")  # waiting: the command that waited for it was killed, too
        }
        if current:  # the time of another recipe's runs is not this one's
            self._elapsed_before = file.elapsed + max(unwritten.values(), default=0.0)
        for trial in file.trials:
            self._numbers[_key(trial.values)] = trial.number
            measured = trial.state == "failed" or self.request.measures <= trial.changes.keys()
            valid = current and measured and trial.state in ENDED
            seconds = trial.seconds + unwritten.get(trial.run, 0.0)
            again = {"state": "waiting", "seconds": seconds} if current else _ANEW
            kept = trial if valid else trial.model_copy(update=again)
            self._earlier[_key(trial.values, trial.seed)] = kept

    def add(self, values: Values) -> list[Trial]:
        """Add a configuration with all seeds; return its trials."""
        if any(trial.values == values for trial in self.trials):
            return [trial for trial in self.trials if trial.values == values]
        number = self._numbers.setdefault(_key(values), 1 + max(self._numbers.values(), default=0))
        added = []
        for seed in self.request.seeds:
            known = self._earlier.get(_key(values, seed))
            name = f"{self.request.name}-p{number:02d}-s{seed}"
            trial = known or Trial(number=number, values=values, seed=seed, run=name)
            if trial.state == "failed":  # the same command tries again
                trial = trial.model_copy(update=_ANEW)
            added.append(trial)
        self.trials += added
        self.write()
        return added

    def unsettle(self, is_current: Callable[[Trial], bool]) -> None:
        """Let trials run again whose results are not those of the present data, settings and code."""
        for key, trial in self._earlier.items():
            if trial.state == "done" and not is_current(trial):
                self._earlier[key] = trial.model_copy(update=_ANEW)

    def earlier(self) -> list[Values]:
        """Return the configurations of earlier commands that the request has, in their order."""
        factors = {factor.key: factor for factor in self.request.factors}
        found: dict[int, Values] = {}
        for trial in sorted(self._earlier.values(), key=lambda trial: trial.number):
            values, known = trial.values, trial.seed in self.request.seeds
            if (
                known
                and values.keys() == factors.keys()
                and all(factors[k].has(v) for k, v in values.items())
            ):
                found.setdefault(trial.number, values)
        return list(found.values())

    def run_clock(self) -> None:
        """Begin to count the time of this command: it runs, measures or waits for something."""
        if self._since is None:
            self._since = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Return the seconds in which commands have run something of the sweep."""
        return self._elapsed_before + (0.0 if self._since is None else time.monotonic() - self._since)

    def update(self, trial: Trial, **changes: Any) -> Trial:
        """Replace a trial by one with changed fields."""
        place = next(i for i, each in enumerate(self.trials) if each.run == trial.run)
        self.trials[place] = self.trials[place].model_copy(update=changes)
        self.write()
        return self.trials[place]

    def file(self) -> SweepFile:
        """Return the state as it is written."""
        return SweepFile(
            request=self.request,
            recipe_sha256=self._sha256,
            trials=tuple(self.trials),
            elapsed=self.elapsed,
            left_out=self.left_out,
            notes=self.notes,
        )

    def write(self) -> None:
        """Write `sweep.json`, with trials of earlier commands that this one does not ask for at the end."""
        file, asked = self.file(), {trial.run for trial in self.trials}
        others = [trial for trial in self._earlier.values() if trial.run not in asked]
        write_json(
            self._path,
            file.model_copy(update={"trials": (*file.trials, *others)}).model_dump(mode="json"),
        )


def _key(values: Values, seed: int | None = None) -> str:
    return json.dumps([values, seed], sort_keys=True)


def _unwritten_seconds(sweep_file: Path, run_file: Path) -> float:
    """Return the time that a run went on after its sweep was killed, by the last changes of their files.

    A process of the run that began later, by hand, is counted from its own beginning.
    """
    run: RunFile | None = read_or_none(run_file, RunFile)
    if run is None or run.started is None:
        return 0.0
    begun = max(sweep_file.stat().st_mtime, datetime.fromisoformat(run.started).timestamp())
    return max(0.0, run_file.stat().st_mtime - begun)


def read_sweep(folder: Path) -> SweepFile:
    """Read the state of a sweep.

    Raises:
        DamagedFile: It is damaged.
    """
    found: SweepFile = read_json(folder / FILE, SweepFile, hint="Remove it; finished runs are kept.")
    return found
