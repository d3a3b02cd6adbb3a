"""Keep a sweep's runs within its time: which configurations fit, by what is spent and what has begun."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence

from cpt.errors import UsageError
from cpt.formatting import duration_in_words, plural
from cpt.recipe.schema import Recipe
from cpt.sweep.estimates import Estimates
from cpt.sweep.process import Execution
from cpt.sweep.state import ENDED, SweepState, Trial
from cpt.sweep.time_limit import Price, Times, price, times_of


class Budget:
    """The time of a sweep's runs.

    A configuration begins if all its seeds end in time: each run begins on the job that is free first. One
    that a stopped command had begun goes on in any case, as it would have.

    Args:
        state: State of the sweep, whose request has a time.
        execution: The way in which runs are started.
        load: Function that gives the recipe of a trial.
    """

    def __init__(
        self, state: SweepState, execution: Execution, load: Callable[[Trial], Recipe], seconds: float
    ) -> None:
        self._state = state
        self._execution = execution
        self._load = load
        self._seconds = seconds
        self._limit = seconds * execution.jobs
        self._recipes: dict[str, Recipe] = {}
        self._promised: dict[str, float] = {}
        self._making: dict[str, frozenset[str]] = {}
        self.estimates = Estimates()
        self._began = time.monotonic()

    @property
    def _spent(self) -> float:
        """Seconds that runs and measurements have taken, and that those which have begun will take."""
        return self._by_runs + self.estimates.took * self._execution.jobs

    @property
    def _by_runs(self) -> float:
        return math.fsum(self._each)

    @property
    def _each(self) -> list[float]:
        """Seconds of each run: those that it has taken, or will take."""
        returning = self._state.to_return if self._state.request.method == "tpe" else ()
        own = [max(each.seconds, self._promised.get(each.run, 0.0)) for each in self._state.trials]
        return [*(each.seconds for each in returning), *own]

    def _free(self) -> list[float]:
        """Return when each job is free, in seconds from the beginning, as a heap."""
        free = [self.estimates.took] * self._execution.jobs
        for seconds in self._each:
            heapq.heapreplace(free, free[0] + seconds)
        return free

    def _times(self) -> Times:
        # runs on one machine share it, and the estimate is that of a run alone
        sharing = 1 if self._execution.launcher else self._execution.jobs
        done = [each for each in self._state.trials if each.state == "done"]
        estimated = {int(number): stages for number, stages in self.estimates.seconds.items()}
        return times_of(done, estimated, self._execution.runs, sharing)

    def _is_known(self, trials: Sequence[Trial], times: Times) -> bool:
        """Return True if the time of a configuration can be told."""
        if any(each.state == "done" for each in self._state.trials):
            return True
        return trials[0].number in times.estimated and not self._execution.options

    def _price(self, trials: Sequence[Trial], times: Times, made: frozenset[str]) -> Price:
        for trial in trials:
            if trial.run not in self._recipes:
                self._recipes[trial.run] = self._load(trial)
        return price(trials, self._recipes, times, self._execution.runs, made)

    def _being_made(self) -> frozenset[str]:
        return frozenset[str]().union(*self._making.values())

    def begin_first(self) -> list[Trial]:
        """Return the waiting trials of the first configuration that fits, which begins; empty if none does.

        A configuration of which nothing is known may begin as long as there is time left.
        """
        times = self._times()
        if gone_on := next(self._gone_on(), None):
            return self._promise(gone_on, self._price(gone_on, times, self._being_made()))
        for own in self._waiting():
            if not self._is_known(own, times):
                if self._by_runs >= self._limit:
                    continue
                self._promised |= {trial.run: 0.0 for trial in own}
                return own
            found = self._price(own, times, self._being_made())
            if _end(self._free(), found.seconds, len(own)) <= self._seconds:
                return self._promise(own, found)
        return []

    def _gone_on(self) -> Iterator[list[Trial]]:
        """Yield the waiting trials of each configuration that a stopped command had begun."""
        for own in self._waiting():
            if left := [trial for trial in own if trial.run in self._state.begun]:
                yield left

    def _promise(self, own: list[Trial], found: Price) -> list[Trial]:
        """Set the time of trials aside; return them."""
        for trial in own:
            self._promised[trial.run] = trial.seconds + found.seconds / len(own)
            self._making[trial.run] = found.making
        return own

    def end(self, trial: Trial) -> None:
        """Take note that a trial has ended: its own time counts."""
        self._promised.pop(trial.run, None)
        self._making.pop(trial.run, None)

    def _waiting(self) -> list[list[Trial]]:
        """Return the trials of each configuration that has not begun, in order."""
        groups: dict[int, list[Trial]] = {}
        for trial in self._state.trials:
            if trial.state == "waiting" and trial.run not in self._promised:
                groups.setdefault(trial.number, []).append(trial)
        return list(groups.values())

    def plan(self) -> str:
        """Return in words which configurations fit by what is known, and which do not."""
        times, groups = self._times(), self._waiting()
        if not groups:
            return ""
        if not all(self._is_known(own, times) for own in groups):
            return f"the time of the runs is not known before one has ended: {self._reason(groups)}"
        free, made, left = self._free(), self._being_made(), list[list[Trial]]()
        unknown, ends = set[str](), 0.0
        begun = {own[0].number for own in self._gone_on()}
        for own in sorted(groups, key=lambda own: own[0].number not in begun):
            found = self._price(own, times, made)
            unknown |= found.unknown
            end = _end(then := list(free), found.seconds, len(own))
            if end > self._seconds and own[0].number not in begun:
                left.append(own)
                continue
            free, made, ends = then, made | found.making, max(ends, end)
        fitting = len(groups) - len(left)
        if not fitting:  # `leave_out` tells how long they take
            return ""
        jobs = self._execution.jobs
        said = (
            f"{fitting} of {plural(len(groups), 'configuration')} fit in {duration_in_words(self._seconds)}"
        )
        said += f", about {duration_in_words(ends)} in all"
        if left:
            more = self._together(left, times, made) / jobs
            said += f"; left out: {_names(left)}, about {duration_in_words(more)} more"
        if unknown:
            said += f"; not counted before a run has ended: {', '.join(sorted(unknown))}"
        return said

    def _reason(self, groups: Sequence[Sequence[Trial]]) -> str:
        reasons = [self.estimates.unknown.get(str(own[0].number), "") for own in groups]
        if self._execution.options:
            return "an estimate is of one process"
        return next(filter(None, reasons), "there is no estimate")

    def _together(self, groups: Sequence[Sequence[Trial]], times: Times, made: frozenset[str]) -> float:
        """Return the seconds of configurations one after the other."""
        seconds = 0.0
        for own in groups:
            found = self._price(own, times, made)
            seconds, made = seconds + found.seconds, made | found.making
        return seconds

    def leave_out(self) -> list[Trial]:
        """Mark the waiting trials as left out, with the reason, and return them.

        Raises:
            UsageError: No configuration fits, and no run has ended.
        """
        times, groups = self._times(), self._waiting()
        if not groups:
            return []
        jobs, budget = self._execution.jobs, duration_in_words(self._seconds)
        if not any(each.state in ENDED for each in self._state.trials):
            raise self._nothing_fits(groups, times)
        waiting = [trial for own in groups for trial in own]
        if not all(self._is_known(own, times) for own in groups):
            why = f"{plural(len(waiting), 'run')}: no run has succeeded in the given time"
        else:
            more = duration_in_words(self._together(groups, times, self._being_made()) / jobs)
            left = duration_in_words(max(0.0, self._limit - self._spent) / jobs)
            why = f"{_names(groups)} would take about {more} more, and {left} of {budget} are left"
        left_out = [self._state.update(trial, state="left out") for trial in waiting]
        self._state.left_out = why
        self._state.write()
        return left_out

    def _nothing_fits(self, groups: Sequence[Sequence[Trial]], times: Times) -> UsageError:
        prices = {own[0].number: self._price(own, times, frozenset()).seconds for own in groups}
        number = min(prices, key=lambda each: prices[each])
        takes = _end(self._free(), prices[number], len(self._state.request.seeds))
        seeds = plural(len(self._state.request.seeds), "seed")
        return UsageError(
            f"no configuration fits in {duration_in_words(self._seconds)}: the shortest, p{number:02d}, "
            f"takes about {duration_in_words(takes)} with {seeds}",
            hint=f"Give more time, such as --budget {math.ceil(1.2 * takes / 60)}min, or shorten the runs: "
            "fewer --seeds, or fewer tokens in the recipe.",
        )

    def overrun(self) -> str:
        """Return in words by how much the runs took longer than they may; empty if they did not."""
        took = max(*self._free(), time.monotonic() - self._began)
        if took <= self._seconds:
            return ""
        words = [duration_in_words(each) for each in (took, self._seconds)]
        return f"The runs took {words[0]} instead of {words[1]}: a configuration that has begun is finished."


def _end(free: list[float], seconds: float, count: int) -> float:
    """Return when the last of some equal runs ends, and let them take their places.

    Args:
        free: When each job is free, as a heap.
        seconds: Seconds of all runs together.
        count: Number of the runs.
    """
    end = 0.0
    for _ in range(count):
        end = free[0] + seconds / count
        heapq.heapreplace(free, end)
    return end


def _names(groups: Sequence[Sequence[Trial]]) -> str:
    return ", ".join(f"p{own[0].number:02d}" for own in groups)
