"""The time of a sweep: which configurations begin, what is finished, and what is left out."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked_runs
import pytest
from asked_sweeps import HOUR, request

from cpt.errors import UsageError
from cpt.json_file import write_json
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe
from cpt.sweep import run as running
from cpt.sweep.budget import Budget
from cpt.sweep.configurations import configurations, overrides_of
from cpt.sweep.estimates import Estimates
from cpt.sweep.process import Execution
from cpt.sweep.run import SweepEvent, sweep
from cpt.sweep.state import SweepState, Trial, read_sweep
from cpt.sweep.time_limit import Times


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock of sweeps that stands still unless it is set forward."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("cpt.sweep.state.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def execution(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> Execution:
    forked_runs.replace_processes(monkeypatch, recipe_file.parent / "made.txt")
    return Execution(recipe_file.parent / "runs")


def estimate(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], **more: Any) -> None:
    """Let the estimator say how long the training of each configuration takes."""
    found = {str(number): {"pretrain": each} for number, each in seconds.items()}
    monkeypatch.setattr(running._Sweep, "_measure", lambda *_: Estimates(seconds=found, **more))


def test_a_configuration_that_does_not_fit_is_left_out(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is told before the first run; the expensive one in the middle does not keep others out."""
    estimate(monkeypatch, {1: 600.0, 2: 600.0, 3: 9000.0, 4: 600.0})
    monkeypatch.setattr("cpt.sweep.budget.times_of", lambda _, estimated, *__: Times(estimated, {}))
    events: list[SweepEvent] = []
    file = sweep(request(recipe_file, seconds=HOUR), execution, events.append)
    assert [trial.state for trial in file.trials] == ["done", "done", "left out", "done"]
    assert file.left_out.startswith("p03: with it it would be about 2 h ")
    assert [event.kind for event in events[:3]] == ["estimates", "plan", "starts"]
    assert events[1].text == (
        "3 of 4 configurations fit in 1 h, about 30 min in all; left out: p03, about 3 h with it; not "
        "counted before a run has ended: corpus, evaluate, merge, report, vocabulary"
    )
    out = [event.trial.run for event in events if event.kind == "left out" and event.trial]
    assert out == ["sweep-p03-s17"]


def test_runs_that_are_faster_than_estimated_make_room(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate(monkeypatch, {1: 600.0, 2: 600.0, 3: 9000.0, 4: 600.0})
    file = sweep(request(recipe_file, seconds=HOUR), execution)
    assert {trial.state for trial in file.trials} == {"done"}
    assert file.left_out == ""


def test_nothing_begins_if_nothing_fits(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate(monkeypatch, {1: 9000.0, 2: 9000.0, 3: 6000.0, 4: 9000.0})
    with pytest.raises(
        UsageError, match="no configuration fits in 1 h: the shortest, p03, takes about 1 h 40"
    ):
        sweep(request(recipe_file, seconds=HOUR), execution)
    assert not (recipe_file.parent / "made.txt").exists()
    with pytest.raises(UsageError, match=r"p03, takes about 3 h 20 min with 2 seeds") as caught:
        sweep(request(recipe_file, seconds=HOUR, seeds=(17, 18)), execution)
    assert "--budget 240min" in caught.value.hint


def test_without_an_estimate_the_first_run_tells(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running._Sweep, "_measure", lambda *_: Estimates(unknown={"1": "the model does not fit"})
    )
    events: list[SweepEvent] = []
    file = sweep(request(recipe_file, seconds=HOUR), execution, events.append)
    assert {trial.state for trial in file.trials} == {"done"}
    plan = next(event.text for event in events if event.kind == "plan")
    assert plan == "the time of the runs is not known before one has ended: the model does not fit"


def test_a_measurement_longer_than_the_time_is_told(recipe_file: Path, clock: Any) -> None:
    budget, _ = budget_of(recipe_file, 50.0)
    budget.estimates = Estimates(unknown={"1": "the model does not fit"})
    clock.seconds = 60.0
    assert budget.begin_first() == []
    with pytest.raises(UsageError, match="how long a run takes is not known: the model does not fit"):
        budget.leave_out()


def budget_of(recipe_file: Path, seconds: float, jobs: int = 1, **changes: Any) -> tuple[Budget, SweepState]:
    """Return a budget over four configurations that are estimated at 100 s each."""
    asked = request(recipe_file, **changes)
    runs = recipe_file.parent / "runs"
    (runs / "sweep").mkdir(parents=True, exist_ok=True)
    state = SweepState(runs / "sweep", asked)
    state.run_clock()
    for values in configurations(asked) or ():
        state.add(values)

    def loaded(trial: Trial) -> Recipe:
        return load(recipe_file, overrides_of(asked, trial.values, trial.seed, trial.run))

    budget = Budget(state, Execution(runs, jobs), loaded, seconds)
    budget.estimates = Estimates(seconds={str(number): {"pretrain": 100.0} for number in range(1, 5)})
    return budget, state


def test_a_plan_that_was_too_optimistic_is_corrected_on_the_way(
    recipe_file: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of 100 s fit in 450 s; the first took 200 s, so that one more fits."""
    budget, state = budget_of(recipe_file, 450.0)
    assert budget.plan().startswith("4 of 4 configurations fit")

    def twice(done: list[Trial], estimated: Any, _runs: Path, _unmeasured: float) -> Times:
        return Times(estimated, {}, ratio=2.0 if done else 1.0)

    monkeypatch.setattr("cpt.sweep.budget.times_of", twice)
    for number in (1, 2):
        (trial,) = budget.begin_first()
        assert trial.number == number
        clock.seconds += 200.0
        budget.end(state.update(trial, state="done", seconds=200.0))
    assert budget.begin_first() == []
    assert [trial.number for trial in budget.leave_out()] == [3, 4]
    assert state.left_out == "p03, p04: with them it would be about 13 min 20 s instead of 7 min 30 s"
    assert budget.overrun() == ""


def test_all_time_of_the_commands_counts(recipe_file: Path, clock: Any) -> None:
    """That of a failed run and of a measurement, too."""
    budget, state = budget_of(recipe_file, 450.0)
    clock.seconds = 60.0
    (trial,) = budget.begin_first()
    clock.seconds = 380.0
    budget.end(state.update(trial, state="failed", seconds=320.0))
    assert budget.begin_first() == []
    clock.seconds = 460.0
    state.write()
    assert budget.overrun() == (
        "The runs took 7 min 40 s, more than 7 min 30 s: a configuration that has begun is finished."
    )
    again, _ = budget_of(recipe_file, 550.0)
    assert again.begin_first() == []  # 460 s of the command before
    again, _ = budget_of(recipe_file, 570.0)
    assert again.begin_first() != []


@pytest.mark.parametrize(
    ("jobs", "seconds", "fit"), [(1, 350.0, 3), (2, 350.0, 2), (2, 450.0, 4), (3, 350.0, 3), (3, 250.0, 0)]
)
def test_runs_at_the_same_time_share_a_machine_and_end_in_time(
    recipe_file: Path, clock: Any, jobs: int, seconds: float, fit: int
) -> None:
    """100 s alone, 200 s two at a time, 300 s three at a time: the last one to end counts."""
    budget, _ = budget_of(recipe_file, seconds, jobs)
    plan = budget.plan()
    begun = [budget.begin_first() for _ in range(4)]
    assert sum(map(bool, begun)) == fit
    assert not fit or plan.startswith(f"{fit} of 4")


@pytest.fixture
def as_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no finished run correct the estimates."""
    monkeypatch.setattr(
        "cpt.sweep.budget.times_of",
        lambda _done, estimated, _runs, sharing: Times(estimated, {}, ratio=sharing),
    )


@pytest.mark.usefixtures("as_estimated")
def test_a_job_that_was_idle_gives_no_time_back(recipe_file: Path, clock: Any) -> None:
    """One run after the other on two jobs, of 200 s each in 450 s: the third would end at 600 s."""
    budget, state = budget_of(recipe_file, 450.0, 2)
    for _ in range(2):
        (trial,) = budget.begin_first()
        clock.seconds += 200.0
        budget.end(state.update(trial, state="done", seconds=200.0))
    assert budget.begin_first() == []


def test_a_run_longer_than_the_time_does_not_begin_on_many_jobs(recipe_file: Path, clock: Any) -> None:
    """100 s on one of four GPUs are not in a time of 90 s, though 4 x 90 is more."""
    budget, _ = budget_of(recipe_file, 90.0, 4)
    budget._execution = Execution(budget._execution.runs, 4, launcher=("srun",))
    assert budget.begin_first() == []


def test_what_began_without_an_estimate_is_priced_once_one_is_known(
    recipe_file: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs: the first ends after 100 s, so the second takes until 100 s, too, and a third fits in 210."""
    budget, state = budget_of(recipe_file, 210.0, 2)
    budget.estimates = Estimates()
    one, other = budget.begin_first()[0], budget.begin_first()[0]
    assert (one.number, other.number) == (1, 2)
    for trial in (one, other):
        state.update(trial, state="running")
    clock.seconds = 40.0
    state.update(other, seconds=40.0)
    budget.end(state.update(one, state="done", seconds=40.0))
    monkeypatch.setattr("cpt.sweep.budget.times_of", lambda *_: Times({}, {"pretrain": 100.0 / 500}))
    monkeypatch.setattr(
        "cpt.sweep.time_limit._tokens", lambda entry: 500 if entry.step.name == "pretrain" else 1
    )
    assert budget._free(budget._times()) == pytest.approx([40.0, 100.0])


@pytest.mark.usefixtures("as_estimated")
def test_what_has_begun_is_finished_after_any_number_of_stops(recipe_file: Path, clock: Any) -> None:
    """p02 with 18 running: 17 took longer than expected. New seeds are priced as any configuration."""
    budget, state = budget_of(recipe_file, 420.0, seeds=(17, 18))
    for number in (1, 2):
        begun = budget.begin_first()
        assert [trial.number for trial in begun] == [number, number]
        for trial, seconds in zip(begun, (100.0, 100.0) if number == 1 else (210.0, None), strict=True):
            if seconds is None:
                state.update(trial, state="running")
                continue
            clock.seconds += seconds
            budget.end(
                state.update(trial, state="done", seconds=seconds, changes={"domain": 0.1, "general": 0.1})
            )
    for _ in range(3):  # stopped again before anything has started
        again, resumed = budget_of(recipe_file, 420.0, seeds=(17, 18, 19))
        assert [trial.run for trial in resumed.trials if trial.begun and trial.state == "waiting"] == [
            "sweep-p02-s18"
        ]
    assert [trial.run for trial in again.begin_first()] == ["sweep-p02-s18"]
    assert again.begin_first() == []


def test_a_failed_run_is_priced_before_it_is_tried_again(recipe_file: Path, clock: Any) -> None:
    budget, state = budget_of(recipe_file, 150.0)
    budget.end(state.update(budget.begin_first()[0], state="failed", seconds=100.0))
    clock.seconds = 100.0
    state.write()
    again, _ = budget_of(recipe_file, 150.0)
    assert again.begin_first() == []


def test_the_time_of_another_recipe_does_not_count(recipe_file: Path, clock: Any) -> None:
    _, state = budget_of(recipe_file, 150.0)
    clock.seconds = 900.0
    state.update(state.trials[0], state="done")
    recipe_file.write_text(recipe_file.read_text() + "\n# a remark\n")
    again, _ = budget_of(recipe_file, 150.0)
    assert [trial.number for trial in again.begin_first()] == [1]


def test_a_command_that_only_looks_takes_no_time(recipe_file: Path, clock: Any) -> None:
    _, state = budget_of(recipe_file, 150.0)
    clock.seconds = 100.0
    state.write()
    looking = SweepState(state._path.parent, state.request)
    clock.seconds = 900.0
    assert looking.elapsed == 100.0
    looking.run_clock()
    clock.seconds = 910.0
    assert looking.elapsed == 110.0


def test_time_of_earlier_commands_is_named_where_nothing_fits(recipe_file: Path, clock: Any) -> None:
    budget, _state = budget_of(recipe_file, 150.0)
    clock.seconds = 120.0
    assert budget.begin_first() == []
    with pytest.raises(UsageError, match="takes about 1 min 40 s with 1 seed, and 2 min are used up"):
        budget.leave_out()


def test_all_seeds_of_a_configuration_begin_or_none(recipe_file: Path, clock: Any) -> None:
    budget, _ = budget_of(recipe_file, 350.0, seeds=(17, 18))
    assert [trial.seed for trial in budget.begin_first()] == [17, 18]
    assert budget.begin_first() == []


def test_measurements_take_of_the_time(recipe_file: Path, clock: Any) -> None:
    budget, _ = budget_of(recipe_file, 150.0)
    clock.seconds = 60.0
    assert budget.begin_first() == []
    assert budget.plan() == ""


def _stamp(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


@pytest.mark.parametrize(
    ("started", "seconds"),
    [
        ("2026-01-01T12:00:00+00:00", 3.0 + 50.0),  # the run went on for 50 s
        ("2026-01-01T12:05:40+00:00", 3.0 + 10.0),  # someone began it again after the kill
    ],
)
def test_the_time_of_a_killed_sweep_is_not_lost(recipe_file: Path, started: str, seconds: float) -> None:
    """`sweep.json` was written last at 12:05:00, `run.json` at 12:05:50."""
    folder = recipe_file.parent / "runs" / "sweep"
    folder.mkdir(parents=True)
    state = SweepState(folder, request(recipe_file))
    (trial, *_) = [state.add(values)[0] for values in configurations(request(recipe_file)) or ()]
    state.update(trial, state="running", seconds=3.0)
    run_file = folder.parent / trial.run / "run.json"
    run_file.parent.mkdir()
    write_json(run_file, {"state": "running", "started": started})
    for path, time in ((folder / "sweep.json", "12:05:00"), (run_file, "12:05:50")):
        os.utime(path, (stamp := _stamp(f"2026-01-01T{time}+00:00"), stamp))
    resumed = SweepState(folder, request(recipe_file))
    assert resumed.elapsed == pytest.approx(seconds - 3.0, abs=1.0)
    again = resumed.add(trial.values)
    assert [(each.state, each.seconds) for each in again] == [("waiting", seconds)]
    # that command was killed while it waited for the run, which went on for 20 s
    for path, later in ((folder / "sweep.json", "12:06:00"), (run_file, "12:06:20")):
        os.utime(path, (stamp := _stamp(f"2026-01-01T{later}+00:00"), stamp))
    once_more = SweepState(folder, request(recipe_file))
    assert once_more.add(trial.values)[0].seconds == seconds + 20.0
    assert once_more.elapsed == pytest.approx(seconds - 3.0 + 20.0, abs=1.0)


def test_the_time_of_a_run_is_written_while_it_runs(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.sweep.process._BETWEEN_LINES", 0.0)
    written: list[float] = []

    def look(event: SweepEvent) -> None:
        if event.kind == "runs" and event.trial:
            trials = read_sweep(execution.runs / "sweep").trials
            written.append(next(each.seconds for each in trials if each.run == event.trial.run))

    sweep(request(recipe_file), execution, look)
    assert written
    assert all(written)
