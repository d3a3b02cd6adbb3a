"""Run the trials of a sweep, each as a process of `cpt run`. The same command continues after any stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpt.errors import CptError, UsageError
from cpt.recipe.failures import interruptible
from cpt.recipe.journal import find_run
from cpt.recipe.load import load
from cpt.recipe.lock import FolderLock, is_held
from cpt.recipe.plan import make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.seeds import mean_over_seeds
from cpt.sweep.configurations import check, configurations, overrides_of
from cpt.sweep.factors import Tried, propose, size_of
from cpt.sweep.measures import changes_of, more_is_better
from cpt.sweep.state import ENDED, SweepFile, SweepRequest, SweepState, Trial
from cpt.sweep.time_limit import Times, affordable, seconds_around, stage_seconds

RESULTS = frozenset({0, 3, 4})
"""Exit codes of `cpt run` that come with a result: done, a limit is broken, a limit is not shown."""

_PAUSE = 0.2
"""Seconds between two looks at the running processes."""

_BETWEEN_LINES = 10.0
"""Seconds between two lines on the progress of a run."""

EventKind = Literal["starts", "runs", "done", "failed", "left out", "waits"]


@dataclass(frozen=True)
class SweepEvent:
    """Something that happened to a trial, and how many of the known trials have ended."""

    kind: EventKind
    trial: Trial
    ended: int
    of: int
    text: str = ""


Listener = Callable[[SweepEvent], None]


def null_listener(_event: SweepEvent) -> None:
    """Ignore an event."""


@dataclass(frozen=True)
class Execution:
    """The way in which runs are started.

    Attributes:
        runs: Folder of all runs.
        jobs: Number of runs at the same time.
        launcher: Words before the command, such as `srun --gpus 1`.
        options: Options of `accelerate launch` for every run.
    """

    runs: Path
    jobs: int = 1
    launcher: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def sweep(request: SweepRequest, execution: Execution, listener: Listener = null_listener) -> SweepFile:
    """Run all trials of a sweep that have not ended, and return the state.

    Raises:
        RecipeError: The recipe has problems with some configurations.
        UsageError: Another process runs this sweep, or its folder is that of another one.
        Interrupted: Ctrl-C.
        Terminated: SIGTERM.
    """
    notes = check(request)
    folder = execution.runs.absolute() / request.name
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    if not lock.acquire(0.5):
        raise UsageError(f"the sweep `{request.name}` is being run by another process")
    try:
        with interruptible("The same command continues where it stopped."):
            state = SweepState(folder, request, notes)
            state.unsettle(lambda trial: is_current(request, trial, execution.runs))
            _Sweep(state, execution, listener).run()
            return state.file()
    finally:
        lock.release()


def is_current(request: SweepRequest, trial: Trial, runs: Path) -> bool:
    """Return True if a run has the results of its present settings, data and code: nothing is left to run."""
    try:
        recipe = load(Path(request.recipe), overrides_of(request, trial.values, trial.seed, trial.run))
        return not make_plan(recipe, Store(runs.absolute() / trial.run)).to_run
    except CptError:  # the run tells what is wrong
        return False


class _Sweep:
    def __init__(self, state: SweepState, execution: Execution, listener: Listener) -> None:
        self._state = state
        self._request = state.request
        self._execution = execution
        self._listener = listener
        self._logs = execution.runs.absolute() / state.request.name / "logs"

    def run(self) -> None:
        known = configurations(self._request)
        if known is None:
            self._follow_results()
            return
        for values in known:
            self._state.add(values)
        if self._request.seconds is None:
            self._run_trials(self._state.trials)
            return
        trials, jobs = list(self._state.trials), self._execution.jobs
        for first in range(0, len(trials), jobs):  # the times of the first result tell what others will take
            done = any(each.state == "done" for each in self._state.trials)
            if done or self._spent >= self._request.seconds:
                break
            self._run_trials(trials[first : first + jobs])
        self._leave_out(self._request.seconds)
        self._run_trials(self._state.trials)

    @property
    def _spent(self) -> float:
        """Time that all runs have taken."""
        return sum(each.seconds for each in self._state.trials) / self._execution.jobs

    def _follow_results(self) -> None:
        """Propose one configuration after the other, from the results so far."""
        possible = size_of(self._request.factors)
        points = min(self._request.points or 0, possible or sys.maxsize)
        took: list[float] = []
        for _ in range(points):
            next_takes = sum(took) / max(1, len(took))
            limit = self._request.seconds
            if took and limit is not None and self._spent + next_takes > limit:
                self._state.left_out = "the time is used up"
                self._state.write()
                break
            values = propose(self._request.factors, self._tried(), self._request.seeds[0])
            trials = self._state.add(values)
            self._run_trials(trials)
            own = self._state.trials[-len(trials) :]
            took.append(sum(each.seconds for each in own) / self._execution.jobs)

    def _tried(self) -> list[Tried]:
        """Return each configuration with its objective (None: its runs failed) and excess over the limit."""
        found: list[Tried] = []
        limit = self._request.limit
        better = -1.0 if more_is_better(self._request.minimize) else 1.0
        for number in dict.fromkeys(each.number for each in self._state.trials):
            own = [each for each in self._state.trials if each.number == number]
            done = [each for each in own if each.state == "done"]
            if not done:
                found.append((own[0].values, None, None))
                continue
            objective = [better * each.changes[self._request.minimize] for each in done]
            excess = None
            if limit is not None:
                rises = [each.changes[limit.probe] for each in done]
                excess = mean_over_seeds(rises).value - limit.allowed
            found.append((done[0].values, mean_over_seeds(objective).value, excess))
        return found

    def _leave_out(self, seconds: float) -> None:
        """Mark the trials that the time does not allow; they are run by a later command with more time."""
        finished = [each for each in self._state.trials if each.state == "done"]
        waiting = [each for each in self._state.trials if each.state not in ENDED]
        if not finished:
            for trial in waiting:
                self._tell("left out", self._state.update(trial, state="left out"))
            self._state.left_out = f"{len(waiting)} runs: no run has succeeded in the given time"
            self._state.write()
            return
        spent, folder = self._spent, self._execution.runs / finished[0].run
        times = Times(stage_seconds(folder), seconds_around(folder, finished[0].seconds))
        recipes = {each.run: self._load(each) for each in waiting}
        kept, needed = affordable(
            waiting, recipes, times, self._execution.runs, (seconds - spent) * self._execution.jobs
        )
        for trial in waiting:
            if trial.run not in kept:
                left = self._state.update(trial, state="left out")
                self._tell("left out", left)
        if len(kept) < len(waiting):
            total = (spent * self._execution.jobs + needed) / self._execution.jobs
            self._state.left_out = (
                f"{len(waiting) - len(kept)} of {len(self._state.trials)} runs: all would take {total:,.0f} s"
            )
            self._state.write()

    def _load(self, trial: Trial) -> Recipe:
        return load(
            Path(self._request.recipe), overrides_of(self._request, trial.values, trial.seed, trial.run)
        )

    def _run_trials(self, trials: Sequence[Trial]) -> None:
        waiting = [trial for trial in trials if self._now(trial).state in ("waiting", "running")]
        running: dict[str, _Process] = {}
        with self._stopping(running):
            while waiting or running:
                while waiting and len(running) < self._execution.jobs:
                    trial = waiting.pop(0)
                    self._wait_for_orphan(trial)
                    trial = self._state.update(trial, state="running")
                    running[trial.run] = _Process(
                        self._command(trial), self._logs / trial.run, self._execution.jobs
                    )
                    self._tell("starts", trial)
                time.sleep(_PAUSE)
                for run, process in list(running.items()):
                    if (code := process.poll()) is not None:
                        del running[run]
                        self._end(self._named(run), code, process)
                    elif process.is_due():
                        self._tell("runs", self._named(run), _progress(self._execution.runs / run))

    @contextmanager
    def _stopping(self, running: dict[str, _Process]) -> Iterator[None]:
        """Stop all processes if an exception leaves the block, and wait until they have saved their work."""
        try:
            yield
        except BaseException:
            for process in running.values():
                process.stop()
            for run, process in running.items():
                process.wait()
                trial = self._named(run)
                self._state.update(trial, seconds=trial.seconds + process.seconds)
            raise

    def _wait_for_orphan(self, trial: Trial) -> None:
        """Wait for a run that a killed sweep has left behind."""
        folder = self._execution.runs / trial.run
        told = False
        while folder.is_dir() and is_held(folder):
            if not told:
                self._tell("waits", trial, "an earlier sweep's process still runs it")
            told = True
            time.sleep(1.0)

    def _command(self, trial: Trial) -> list[str]:
        options = ["--", *self._execution.options] if self._execution.options else []
        own = overrides_of(self._request, trial.values, trial.seed, trial.run)
        runs = str(self._execution.runs.absolute())
        command = [sys.executable, "-m", "cpt", "run", self._request.recipe, *own, "--runs", runs]
        return [*self._execution.launcher, *command, *options]

    def _end(self, trial: Trial, code: int, process: _Process) -> None:
        """Note the result of a process."""
        folder = self._execution.runs.absolute() / trial.run
        changes: dict[str, float] = {}
        message = ""
        if code in RESULTS:
            try:
                changes = changes_of(folder)
            except CptError as error:
                message = error.message
            lacking = sorted(self._request.measures - changes.keys())
            if not message and lacking:
                known = ", ".join(changes) or "nothing"
                message = f"the run measured no {' and no '.join(f'`{n}`' for n in lacking)}, only {known}"
        else:
            message = process.error() or f"cpt run ended with exit code {code}"
        ended = self._state.update(
            trial,
            state="failed" if message else "done",
            exit_code=code,
            seconds=trial.seconds + process.seconds,
            message=message,
            changes=changes,
        )
        self._tell("failed" if message else "done", ended, message)

    def _now(self, trial: Trial) -> Trial:
        return self._named(trial.run)

    def _named(self, run: str) -> Trial:
        return next(each for each in self._state.trials if each.run == run)

    def _tell(self, kind: EventKind, trial: Trial, text: str = "") -> None:
        trials = self._state.trials
        ended = sum(each.state in ENDED for each in trials)
        self._listener(SweepEvent(kind, trial, ended, len(trials), text))


class _Process:
    """A running `cpt run`, with its output in files."""

    def __init__(self, command: Sequence[str], log: Path, jobs: int) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._stderr = log.with_name(f"{log.name}.err.log")
        self._begun = self._told = time.monotonic()
        environment = dict(os.environ)
        if jobs > 1:  # or each run would start as many threads as there are cores
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        with log.with_name(f"{log.name}.out.log").open("wb") as out, self._stderr.open("wb") as err:
            try:
                self._process = subprocess.Popen(
                    command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise UsageError(
                    f"cannot start {command[0]}: {error.strerror}", hint="Look at --launcher."
                ) from error

    @property
    def seconds(self) -> float:
        """Seconds since the process began."""
        return time.monotonic() - self._begun

    def poll(self) -> int | None:
        return self._process.poll()

    def is_due(self) -> bool:
        """Return True if a line on the progress is due."""
        due = time.monotonic() - self._told >= _BETWEEN_LINES
        if due:
            self._told = time.monotonic()
        return due

    def error(self) -> str:
        """Return the error that the process printed: from the last line that begins with `error`."""
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").splitlines()
        begins = [place for place, line in enumerate(lines) if line.startswith("error")]
        return "\n".join(lines[begins[-1] :] if begins else lines[-3:]).removeprefix("error: ")

    def stop(self) -> None:
        """Ask the process to save its work and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        self._process.wait()


def _progress(folder: Path) -> str:
    """Return the progress of a running run in words."""
    try:
        run = find_run(folder.parent, folder.name)
    except CptError:
        return "begins"
    found = run.data.get("progress")
    if not found:
        return ", ".join(name for name, stage in run.stages.items() if stage["state"] == "running")
    return f"{found['stage']} {found['done']:,}/{found['total']:,} {found['unit']}"
