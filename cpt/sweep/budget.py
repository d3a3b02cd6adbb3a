"""Keep a sweep within its time: which configurations fit, by the clock and by what has begun."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

from cpt.errors import UsageError
from cpt.formatting import duration_in_words, plural
from cpt.recipe.schema import Recipe
from cpt.sweep.estimates import Estimates
from cpt.sweep.process import Execution
from cpt.sweep.state import ENDED, SweepState, Trial
from cpt.sweep.time_limit import Times, Work, times_of, work_of


class Budget:
    """The time of a sweep, of all commands that run it.

    A configuration begins if all its seeds end in time: each run begins on the job that is free first. One
    that has begun is finished, also by a later command.

    Args:
        state: State of the sweep.
        execution: The way in which runs are started.
        load: Function that gives the recipe of a trial.
        seconds: Time of the sweep.
    """

    def __init__(
        self, state: SweepState, execution: Execution, load: Callable[[Trial], Recipe], seconds: float
    ) -> None:
        self._state = state
        self._execution = execution
        self._load = load
        self._seconds = seconds
        self._recipes: dict[str, Recipe] = {}
        self._begun: dict[str, tuple[Work, float]] = {}
        """Work of each run that has begun or will, with the seconds that its earlier attempts had taken."""
        self.estimates = Estimates()

    def begin_first(self) -> list[Trial]:
        """Return the waiting trials of the first configuration that fits, which begins; empty if none does.

        A configuration of which nothing is known may begin as long as there is time left.
        """
        times = self._times()
        free = self._free(times)
        for own in self._waiting():
            works = self._works(own, self._making())
            if self._is_known(own, times):
                fits = _place(list(free), works, times) <= self._seconds
            else:
                fits = free[0] < self._seconds
            if own[0].begun or fits:
                for trial, work in zip(own, works, strict=True):
                    self._begun[trial.run] = (work, trial.seconds)
                return [self._state.update(trial, begun=True) for trial in own]
        return []

    def end(self, trial: Trial) -> None:
        """Take note that a trial has ended."""
        self._begun.pop(trial.run, None)

    def plan(self) -> str:
        """Return in words which configurations fit by what is known, and which do not."""
        times, groups = self._times(), self._waiting()
        if not groups:
            return ""
        if not all(self._is_known(own, times) for own in groups):
            return f"the time of the runs is not known before one has ended: {self._reason(groups)}"
        free, made, left = self._free(times), self._making(), list[list[Trial]]()
        unknown, ends = set[str](), 0.0
        for own in groups:
            works, then = self._works(own, made), list(free)
            end = _place(then, works, times)
            unknown |= {name for work in works for name in work.unknown(times)}
            if end > self._seconds and not own[0].begun:
                left.append(own)
                continue
            free, ends = then, max(ends, end)
            made |= frozenset[str]().union(*(work.making for work in works))
        fitting = len(groups) - len(left)
        if not fitting:  # `leave_out` tells how long they take
            return ""
        of = plural(len(groups), "configuration")
        said = f"{fitting} of {of} fit in {duration_in_words(self._seconds)}"
        said += f", about {duration_in_words(ends)} in all"
        if left:
            longer = duration_in_words(self._with(left, free, made, times))
            said += f"; left out: {_names(left)}, about {longer} with {_them(left)}"
        if unknown:
            said += f"; not counted before a run has ended: {', '.join(sorted(unknown))}"
        return said

    def leave_out(self) -> list[Trial]:
        """Mark the waiting trials as left out, with the reason, and return them.

        Raises:
            UsageError: No configuration fits, and no run has ended.
        """
        times, groups = self._times(), self._waiting()
        if not groups:
            return []
        if not any(each.state in ENDED for each in self._state.trials):
            raise self._nothing_fits(groups, times)
        waiting = [trial for own in groups for trial in own]
        if not all(self._is_known(own, times) for own in groups):
            why = f"{plural(len(waiting), 'run')}: no run has succeeded in the given time"
        else:
            longer = duration_in_words(self._with(groups, self._free(times), self._making(), times))
            budget = duration_in_words(self._seconds)
            why = f"{_names(groups)}: with {_them(groups)} it would be about {longer} instead of {budget}"
        left_out = [self._state.update(trial, state="left out") for trial in waiting]
        self._state.left_out = why
        self._state.write()
        return left_out

    def overrun(self) -> str:
        """Return in words by how much the sweep took longer than it may; empty if it did not."""
        if (took := self._state.elapsed) <= self._seconds:
            return ""
        words = [duration_in_words(each) for each in (took, self._seconds)]
        return f"The runs took {words[0]}, more than {words[1]}: a configuration that has begun is finished."

    def _nothing_fits(self, groups: Sequence[list[Trial]], times: Times) -> UsageError:
        budget, free = duration_in_words(self._seconds), self._free(times)
        if not all(self._is_known(own, times) for own in groups):
            return UsageError(
                f"no run has begun: the time of {budget} was used up before, and how long a run takes is not "
                f"known: {self._reason(groups)}",
                hint="Give more time.",
            )
        ends = {own[0].number: _place(list(free), self._works(own, frozenset()), times) for own in groups}
        number = min(ends, key=lambda each: ends[each])
        seeds = plural(len(self._state.request.seeds), "seed")
        elapsed = self._state.elapsed
        used = f", and {duration_in_words(elapsed)} are used up" if elapsed >= 1 else ""
        minutes = math.ceil(1.2 * round(ends[number]) / 60)
        return UsageError(
            f"no configuration fits in {budget}: the shortest, p{number:02d}, "
            f"takes about {duration_in_words(ends[number] - elapsed)} with {seeds}{used}",
            hint=f"Give more time, such as --budget {minutes}min, or shorten the runs: "
            "fewer --seeds, or fewer tokens in the recipe.",
        )

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

    def _reason(self, groups: Sequence[Sequence[Trial]]) -> str:
        reasons = [self.estimates.unknown.get(str(own[0].number), "") for own in groups]
        if self._execution.options:
            return "an estimate is of one process"
        return next(filter(None, reasons), "there is no estimate")

    def _waiting(self) -> list[list[Trial]]:
        """Return the trials of each configuration that waits, first those that an earlier command began."""
        groups: dict[tuple[int, bool], list[Trial]] = {}
        for trial in self._state.trials:
            if trial.state == "waiting" and trial.run not in self._begun:
                groups.setdefault((trial.number, trial.begun), []).append(trial)
        return sorted(groups.values(), key=lambda own: not own[0].begun)

    def _free(self, times: Times) -> list[float]:
        """Return when each job is free, in seconds since the sweep began, as a heap.

        None is before now, whatever the jobs did until here.
        """
        elapsed, free = self._state.elapsed, list[float]()
        for trial in self._state.trials:
            if trial.state == "running" and trial.run in self._begun:
                work, before = self._begun[trial.run]
                free.append(elapsed + max(0.0, work.seconds(times) - (trial.seconds - before)))
        free += [elapsed] * (self._execution.jobs - len(free))
        heapq.heapify(free)
        next_ones = [t.run for t in self._state.trials if t.state == "waiting" and t.run in self._begun]
        _place(free, [self._begun[run][0] for run in next_ones], times)
        return free

    def _making(self) -> frozenset[str]:
        return frozenset[str]().union(*(work.making for work, _ in self._begun.values()))

    def _works(self, own: Sequence[Trial], made: frozenset[str]) -> list[Work]:
        """Return the work of the seeds of a configuration: a stage that they share is the first one's."""
        works = list[Work]()
        for trial in own:
            if trial.run not in self._recipes:
                self._recipes[trial.run] = self._load(trial)
            work = work_of(trial, self._recipes[trial.run], self._execution.runs, made)
            made |= work.making
            works.append(work)
        return works

    def _with(
        self, groups: Sequence[list[Trial]], free: Sequence[float], made: frozenset[str], times: Times
    ) -> float:
        """Return when the last of some configurations would end, after what has begun."""
        places, end = list(free), max(free)
        for own in groups:
            works = self._works(own, made)
            made |= frozenset[str]().union(*(work.making for work in works))
            end = max(end, _place(places, works, times))
        return end


def _place(free: list[float], works: Sequence[Work], times: Times) -> float:
    """Return when the last of some runs ends, and let each take the job that is free first.

    Args:
        free: When each job is free, as a heap; changed.
        works: Work of each run.
        times: Known times.
    """
    end = 0.0
    for work in works:
        ends = free[0] + work.seconds(times)
        heapq.heapreplace(free, ends)
        end = max(end, ends)
    return end


def _names(groups: Sequence[Sequence[Trial]]) -> str:
    return ", ".join(f"p{own[0].number:02d}" for own in groups)


def _them(groups: Sequence[Sequence[Trial]]) -> str:
    return "it" if len(groups) == 1 else "them"
