"""Run the trials of a sweep, each as a process of `cpt run`. The same command continues after any stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpt.errors import CptError, UsageError
from cpt.recipe.failures import interruptible
from cpt.recipe.load import load
from cpt.recipe.lock import FolderLock, is_held
from cpt.recipe.plan import make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.seeds import mean_over_seeds
from cpt.sweep.budget import Budget
from cpt.sweep.configurations import check, configurations, overrides_of
from cpt.sweep.estimates import Estimates, kept_estimates
from cpt.sweep.factors import Tried, Values, propose, size_of
from cpt.sweep.measures import changes_of, more_is_better
from cpt.sweep.process import Execution, Process, progress_of
from cpt.sweep.state import ENDED, SweepFile, SweepRequest, SweepState, Trial

RESULTS = frozenset({0, 3, 4})
"""Exit codes of `cpt run` that come with a result: done, a limit is broken, a limit is not shown."""

_PAUSE = 0.2
"""Seconds between two looks at the running processes."""

EventKind = Literal["estimates", "plan", "starts", "runs", "done", "failed", "left out", "waits"]


@dataclass(frozen=True)
class SweepEvent:
    """Something that happened to a trial, and how many of the known trials have ended.

    An estimate and a plan are of all trials: there `trial` is None. `file` is the state of all.
    """

    kind: EventKind
    trial: Trial | None
    ended: int
    of: int
    file: SweepFile
    text: str = ""


Listener = Callable[[SweepEvent], None]


def null_listener(_event: SweepEvent) -> None:
    """Ignore an event."""


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
        self._folder = execution.runs.absolute() / state.request.name
        self._budget: Budget | None = None
        self._begun: list[Trial] = []
        if state.request.seconds is not None:
            self._budget = Budget(state, execution, self._load, state.request.seconds)

    def run(self) -> None:
        known = configurations(self._request)
        if known is None:
            self._follow_results()
        else:
            for values in known:
                self._state.add(values)
            self._run_waiting(known)
        if self._budget is not None and (note := self._budget.overrun()):
            self._state.notes = (*self._state.notes, note)
            self._state.write()

    def _follow_results(self) -> None:
        """Propose one configuration after the other, from the results so far."""
        possible = size_of(self._request.factors)
        points = min(self._request.points or 0, possible or sys.maxsize)
        for values in self._state.earlier()[:points]:  # also where one of them is not tried again
            self._state.add(values)
        self._run_waiting([])
        known = len({each.number for each in self._state.trials})
        for _ in range(points - known):
            values = propose(self._request.factors, self._tried(), self._request.seeds[0])
            self._state.add(values)
            if not self._run_waiting([values]):
                left = points - len({each.number for each in self._state.trials})
                if left:
                    self._state.left_out += f"; {left} of {points} points were not proposed"
                    self._state.write()
                break

    def _run_waiting(self, known: Sequence[Values]) -> bool:
        """Run all waiting trials, or those that the time allows. Return False if some were left out.

        Args:
            known: Configurations that were added.
        """
        for trial in self._state.trials:  # first, as nothing else is looked at meanwhile
            if trial.state == "waiting" and (waited := self._wait_for_orphan(trial)):
                self._state.update(trial, seconds=trial.seconds + waited)
        if self._budget is None:
            self._run_trials(self._next)
            return True
        self._estimate(self._budget)
        if len(known) > 1 and (plan := self._budget.plan()):
            self._tell("plan", None, plan)
        self._run_trials(self._next_that_fits)
        left_out = self._budget.leave_out()
        for trial in left_out:
            self._tell("left out", trial)
        return not left_out

    def _next(self) -> Trial | None:
        return next((each for each in self._state.trials if each.state == "waiting"), None)

    def _next_that_fits(self) -> Trial | None:
        """Return the next seed of the configuration that has begun, or the first one of another that fits."""
        assert self._budget is not None
        if not self._begun:
            self._begun = self._budget.begin_first()
        return self._begun.pop(0) if self._begun else None

    def _estimate(self, budget: Budget) -> None:
        """Estimate the time of the waiting configurations that have no estimate of an earlier command."""
        waiting = dict.fromkeys(each.number for each in self._state.trials if each.state == "waiting")
        budget.estimates = kept_estimates(self._folder, self._state.file())
        lacking = budget.estimates.lacking(list(waiting))
        if lacking:
            self._tell("estimates", None)
            budget.estimates = self._measure(lacking)

    def _measure(self, numbers: Sequence[int]) -> Estimates:
        """Return estimates that a process of its own measures where the runs will run."""
        words = [sys.executable, "-m", "cpt.sweep.estimates", str(self._folder), *map(str, numbers)]
        self._state.run_clock()
        process = Process([*self._execution.launcher, *words], self._folder / "logs" / "estimates", jobs=1)
        with self._stopping({"": process}):
            while (code := process.poll()) is None:
                time.sleep(_PAUSE)
                if process.is_due():
                    self._state.write()
        found = kept_estimates(self._folder, self._state.file())
        if code == 0:
            return found
        reasons = {str(number): process.error().strip() for number in numbers}
        return found.model_copy(update={"unknown": found.unknown | reasons})

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

    def _load(self, trial: Trial) -> Recipe:
        return load(
            Path(self._request.recipe), overrides_of(self._request, trial.values, trial.seed, trial.run)
        )

    def _run_trials(self, take: Callable[[], Trial | None]) -> None:
        """Run the trials that a function gives, one at each free place, until it gives none."""
        running: dict[str, Process] = {}
        with self._stopping(running):
            while True:
                while len(running) < self._execution.jobs and (trial := take()) is not None:
                    running[trial.run] = self._start(trial)
                if not running:
                    return
                before = len(running)
                while len(running) == before:
                    time.sleep(_PAUSE)
                    self._look_at(running)

    def _start(self, trial: Trial) -> Process:
        self._state.run_clock()
        trial = self._state.update(
            trial, state="running", seconds=trial.seconds + self._wait_for_orphan(trial)
        )
        log = self._folder / "logs" / trial.run
        process = Process(self._command(trial), log, self._execution.jobs, trial.seconds)
        self._tell("starts", trial)
        return process

    def _look_at(self, running: dict[str, Process]) -> None:
        """Take note of processes that have ended, and of the time and progress of the others."""
        for run, process in list(running.items()):
            if (code := process.poll()) is not None:
                del running[run]
                self._end(self._named(run), code, process)
            elif process.is_due():
                trial = self._state.update(self._named(run), seconds=process.seconds)
                self._tell("runs", trial, progress_of(self._execution.runs / run))

    @contextmanager
    def _stopping(self, running: dict[str, Process]) -> Iterator[None]:
        """Stop all processes if an exception leaves the block, and wait until they have saved their work."""
        try:
            yield
        except BaseException:
            for process in running.values():
                process.stop()
            for run, process in running.items():
                process.wait()
                if run:  # a measurement is no run
                    self._state.update(self._named(run), seconds=process.seconds)
            raise

    def _wait_for_orphan(self, trial: Trial) -> float:
        """Wait for a run that a killed sweep has left behind, and return the seconds."""
        folder = self._execution.runs / trial.run
        begun = time.monotonic()
        told = False
        while folder.is_dir() and is_held(folder):
            if not told:
                self._state.run_clock()
                self._tell("waits", trial, "an earlier sweep's process still runs it")
            told = True
            time.sleep(_PAUSE)
            self._state.write()
        return time.monotonic() - begun if told else 0.0

    def _command(self, trial: Trial) -> list[str]:
        options = ["--", *self._execution.options] if self._execution.options else []
        own = overrides_of(self._request, trial.values, trial.seed, trial.run)
        runs = str(self._execution.runs.absolute())
        command = [sys.executable, "-m", "cpt", "run", self._request.recipe, *own, "--runs", runs]
        return [*self._execution.launcher, *command, *options]

    def _end(self, trial: Trial, code: int, process: Process) -> None:
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
            seconds=process.seconds,
            message=message,
            changes=changes,
        )
        if self._budget is not None:
            self._budget.end(ended)
        self._tell("failed" if message else "done", ended, message)

    def _named(self, run: str) -> Trial:
        return next(each for each in self._state.trials if each.run == run)

    def _tell(self, kind: EventKind, trial: Trial | None, text: str = "") -> None:
        trials = self._state.trials
        ended = sum(each.state in ENDED for each in trials)
        self._listener(SweepEvent(kind, trial, ended, len(trials), self._state.file(), text))
