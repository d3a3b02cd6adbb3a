"""Running a sweep: every trial once, in any number of commands, with runs that are real processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpt.errors import Interrupted, RecipeError, UsageError
from cpt.monitor.gates.gate import Limit
from cpt.recipe.lock import FolderLock
from cpt.sweep import run as running
from cpt.sweep.configurations import overrides_of
from cpt.sweep.estimates import Estimates
from cpt.sweep.factors import Factor
from cpt.sweep.result import result_of
from cpt.sweep.run import Execution, SweepEvent, null_listener, sweep
from cpt.sweep.state import SweepFile, SweepRequest, SweepState, Trial, read_sweep
from cpt.sweep.time_limit import Times

FAKE = """
import json, pathlib, sys
folder, (peak, replay, seed) = pathlib.Path(sys.argv[1]), map(float, sys.argv[2:])
with open(folder.parent / "calls.txt", "a") as log: log.write(folder.name + chr(10))
if (folder.parent / ("broken-" + folder.name)).exists():
    print("error: out of luck", file=sys.stderr); print("  Try again.", file=sys.stderr); sys.exit(1)
folder.mkdir(exist_ok=True)
domain = -100 * peak + 0.2 * replay + 0.001 * (seed % 3)
general = 40 * peak - 0.1 * replay + 0.001 * (seed % 2)
(folder / "changes.json").write_text(json.dumps({"domain": domain, "general": general}))
sys.exit(3 if general > 0.01 else 0)
"""

FACTORS = (
    Factor(key="pretrain.schedule.peak", levels=(1e-4, 3e-4)),
    Factor(key="corpus.heldout", levels=(0.02, 0.1)),
)


COMMAND = running._Sweep._command


@pytest.fixture
def execution(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """Trials are processes that compute their changes from their settings."""
    (recipe_file.parent / "fake.py").write_text(FAKE)
    runs = recipe_file.parent / "runs"

    def command(self: Any, trial: Trial) -> list[str]:
        values = [str(value) for value in trial.values.values()]
        fake = str(recipe_file.parent / "fake.py")
        return [
            sys.executable,
            "-I",
            "-S",
            fake,
            str(self._execution.runs / trial.run),
            *values,
            str(trial.seed),
        ]

    monkeypatch.setattr(running._Sweep, "_command", command)
    monkeypatch.setattr(
        running, "changes_of", lambda folder: json.loads((folder / "changes.json").read_text())
    )
    monkeypatch.setattr(running, "_PAUSE", 0.01)
    monkeypatch.setattr(running, "is_current", lambda *_: True)
    monkeypatch.setattr(running._Sweep, "_measure", lambda *_: Estimates())
    return Execution(runs)


def request(recipe_file: Path, **changes: Any) -> SweepRequest:
    given = {"name": "sweep", "recipe": str(recipe_file), "factors": FACTORS, "seeds": (17, 18)} | changes
    return SweepRequest(**given)


def calls(execution: Execution) -> list[str]:
    return (execution.runs / "calls.txt").read_text().split()


def plain(file: SweepFile) -> dict[str, Any]:
    """Return the facts of a sweep without times."""
    data = result_of(file, "2026-01-01").model_dump(mode="json")
    for row in data["configurations"]:
        row["seconds"] = 0
    return data


def test_every_trial_runs_once(recipe_file: Path, execution: Execution) -> None:
    events: list[SweepEvent] = []
    file = sweep(request(recipe_file), execution, events.append)
    assert [trial.run for trial in file.trials] == [
        f"sweep-p0{n}-s{s}" for n in (1, 2, 3, 4) for s in (17, 18)
    ]
    assert {trial.state for trial in file.trials} == {"done"}
    assert {trial.exit_code for trial in file.trials} == {0, 3}  # a broken limit is a result
    assert file.trials[0].changes["domain"] == pytest.approx(-0.01 + 0.004 + 0.002)
    assert calls(execution) == [trial.run for trial in file.trials]
    assert [event.kind for event in events] == ["starts", "done"] * 8
    assert events[-1].ended == events[-1].of == 8
    sweep(request(recipe_file), execution)
    assert len(calls(execution)) == 8


def test_runs_of_one_sweep_at_the_same_time(recipe_file: Path, execution: Execution) -> None:
    alone = plain(sweep(request(recipe_file), execution))
    together = Execution(execution.runs.parent / "others", jobs=3)
    together.runs.mkdir()
    assert plain(sweep(request(recipe_file), together)) == alone


@pytest.mark.parametrize("at", [1, 4, 7, 15])
def test_a_sweep_that_was_interrupted_ends_alike(recipe_file: Path, execution: Execution, at: int) -> None:
    seen = 0

    def interrupt(_event: SweepEvent) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        sweep(request(recipe_file), execution, interrupt)
    ended = sweep(request(recipe_file), execution)
    assert plain(ended) == plain(read_sweep(execution.runs / "sweep"))
    assert {trial.state for trial in ended.trials} == {"done"}
    assert len(calls(execution)) <= 9  # at most the one that was running again
    other = request(recipe_file, name="other")
    expected = plain(sweep(other, execution))
    for name in ("effects", "interactions", "front"):
        assert plain(ended)[name] == expected[name]


def test_later_commands_add_values_and_seeds(recipe_file: Path, execution: Execution) -> None:
    sweep(request(recipe_file, seeds=(17,)), execution)
    wider = (FACTORS[0], Factor(key="corpus.heldout", levels=(0.02, 0.05, 0.1)))
    file = sweep(request(recipe_file, factors=wider), execution)
    assert len(file.trials) == 12
    assert len(calls(execution)) == 12
    numbers = {json.dumps(trial.values): trial.number for trial in file.trials}
    assert sorted(numbers.values()) == [1, 2, 3, 4, 5, 6]
    assert numbers[json.dumps({"pretrain.schedule.peak": 1e-4, "corpus.heldout": 0.1})] == 2
    assert len(sweep(request(recipe_file, seeds=(18,)), execution).trials) == 4
    assert len(read_sweep(execution.runs / "sweep").trials) == 12  # the others are not forgotten


def test_a_changed_recipe_runs_again(recipe_file: Path, execution: Execution) -> None:
    sweep(request(recipe_file, seeds=(17,)), execution)
    recipe_file.write_text(recipe_file.read_text() + "\n# a remark\n")
    sweep(request(recipe_file, seeds=(17,)), execution)
    assert len(calls(execution)) == 8


def test_a_failed_run_is_told_and_tried_again(recipe_file: Path, execution: Execution) -> None:
    mark = execution.runs / "broken-sweep-p02-s17"
    execution.runs.mkdir()
    mark.touch()
    file = sweep(request(recipe_file), execution)
    failed = [trial for trial in file.trials if trial.state == "failed"]
    assert [(trial.run, trial.message) for trial in failed] == [
        ("sweep-p02-s17", "out of luck\n  Try again.")
    ]
    found = result_of(file, "2026-01-01")
    assert found.failed == {"sweep-p02-s17": "out of luck\n  Try again."}
    row = next(row for row in found.configurations if row.number == 2)
    assert (row.runs, row.failed) == (["sweep-p02-s18"], ["sweep-p02-s17"])
    mark.unlink()
    assert {trial.state for trial in sweep(request(recipe_file), execution).trials} == {"done"}
    assert len(calls(execution)) == 9


def test_all_mistakes_are_found_before_the_first_run(recipe_file: Path, execution: Execution) -> None:
    wrong = (
        Factor(key="pretrain.schedule.peak", levels=(-1.0, 3e-4)),
        Factor(key="corpus.helt", levels=(1, 2)),
    )
    with pytest.raises(RecipeError) as caught:
        sweep(request(recipe_file, factors=wrong), execution)
    assert len(caught.value.problems) >= 2
    assert len(set(map(str, caught.value.problems))) == len(caught.value.problems)
    assert not execution.runs.exists()


def test_two_commands_cannot_run_one_sweep(recipe_file: Path, execution: Execution) -> None:
    folder = execution.runs / "sweep"
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    assert lock.acquire(1.0)
    with pytest.raises(UsageError, match="another process"):
        sweep(request(recipe_file), execution)
    lock.release()
    sweep(request(recipe_file, seeds=(17,)), execution)
    other = recipe_file.with_name("other.yaml")
    other.write_text(recipe_file.read_text())
    with pytest.raises(UsageError, match="is the sweep of"):
        sweep(request(other), execution)


def test_tpe_continues_with_the_same_proposals(recipe_file: Path, execution: Execution) -> None:
    factors = (Factor(key="pretrain.schedule.peak", low=1e-5, high=1e-3, log=True), FACTORS[1])
    asked = {
        "factors": factors,
        "method": "tpe",
        "points": 5,
        "seeds": (17,),
        "limit": Limit.parse("general <= +0.01"),
    }

    def stop_after_three(event: SweepEvent) -> None:
        if event.kind == "done" and event.ended == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        sweep(request(recipe_file, **asked), execution, stop_after_three)
    ended = sweep(request(recipe_file, **asked), execution)
    assert len(ended.trials) == 5
    whole = sweep(request(recipe_file, name="whole", **asked), execution)
    assert [trial.values for trial in ended.trials] == [trial.values for trial in whole.trials]


def test_what_is_minimised_must_be_measured(recipe_file: Path, execution: Execution) -> None:
    file = sweep(request(recipe_file, minimize="law", seeds=(17,)), execution)
    assert {trial.message for trial in file.trials} == {"the run measured no `law`, only domain, general"}


def test_overrides_are_those_of_a_command_line(recipe_file: Path) -> None:
    asked = request(recipe_file, overrides=("pretrain.tokens=50",))
    values = {"pretrain.schedule": {"kind": "constant", "peak": 1e-5}, "corpus.heldout": 0.1}
    assert overrides_of(asked, values, 3, "a-run") == [
        "pretrain.tokens=50",
        'pretrain.schedule={"kind": "constant", "peak": 1e-05}',
        "corpus.heldout=0.1",
        "seed=3",
        "name=a-run",
    ]


def test_a_setting_inside_another_one_is_not_lost(recipe_file: Path) -> None:
    """A rate is set in the schedule that is varied, in whichever order both are written."""
    inner, outer = "pretrain.schedule.peak", "pretrain.schedule"
    kind, rate = {"kind": "constant"}, 1e-5
    written = ['pretrain.schedule={"kind": "constant"}', "pretrain.schedule.peak=1e-05"]
    for values in ({inner: rate, outer: kind}, {outer: kind, inner: rate}):
        assert request(recipe_file).settings(values) == written
    asked = request(recipe_file, overrides=("pretrain.schedule.peak=1e-05", "pretrain.tokens=50"))
    assert asked.settings({outer: kind}) == ["pretrain.tokens=50", *written]


def test_results_that_are_no_longer_up_to_date_are_made_again(
    recipe_file: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(request(recipe_file, seeds=(17,)), execution)
    monkeypatch.setattr(running, "is_current", lambda _request, trial, _runs: trial.number != 2)
    sweep(request(recipe_file, seeds=(17,)), execution)
    assert calls(execution)[4:] == ["sweep-p02-s17"]


def test_a_run_is_up_to_date_until_its_data_change(recipe_file: Path) -> None:
    from cpt.recipe.load import load
    from cpt.recipe.runner import run as run_recipe

    asked = request(recipe_file)
    values = {"pretrain.schedule.peak": 1e-4, "corpus.heldout": 0.1}
    trial = Trial(number=1, values=values, seed=17, run="sweep-p01-s17", state="done")
    runs = recipe_file.parent / "runs"
    assert not running.is_current(asked, trial, runs)
    run_recipe(load(recipe_file, overrides_of(asked, values, 17, trial.run)), runs)
    assert running.is_current(asked, trial, runs)
    (recipe_file.parent / "notes.txt").write_text("Other notes.\n")
    assert not running.is_current(asked, trial, runs)


def test_another_limit_asks_for_its_measure(recipe_file: Path, execution: Execution) -> None:
    sweep(request(recipe_file, seeds=(17,)), execution)
    limit = Limit.parse("law <= +0.01")
    file = sweep(request(recipe_file, seeds=(17,), limit=limit), execution)
    assert {trial.message for trial in file.trials} == {"the run measured no `law`, only domain, general"}


def test_tpe_goes_on_after_a_failed_configuration(recipe_file: Path, execution: Execution) -> None:
    factors = (Factor(key="pretrain.schedule.peak", low=1e-5, high=1e-3, log=True), FACTORS[1])
    execution.runs.mkdir()
    (execution.runs / "broken-sweep-p01-s17").touch()
    asked = {"factors": factors, "method": "tpe", "points": 4, "seeds": (17,)}
    file = sweep(request(recipe_file, **asked), execution)
    assert [trial.state for trial in file.trials] == ["failed", "done", "done", "done"]
    assert len({json.dumps(trial.values) for trial in file.trials}) == 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock of sweeps that goes forward by two minutes with every run that ends."""
    now = SimpleNamespace(seconds=0.0)

    def forward(event: SweepEvent) -> None:
        now.seconds += 120.0 * (event.kind in ("done", "failed"))

    monkeypatch.setattr("cpt.sweep.state.time", SimpleNamespace(monotonic=lambda: now.seconds))
    now.forward = forward
    return now


def test_a_time_bounds_the_runs_even_if_the_first_ones_fail(
    recipe_file: Path, execution: Execution, clock: Any
) -> None:
    execution.runs.mkdir()
    for number in range(1, 5):
        (execution.runs / f"broken-sweep-p0{number}-s17").touch()
    file = sweep(request(recipe_file, seeds=(17,), seconds=60.0), execution, clock.forward)
    assert [trial.state for trial in file.trials] == ["failed", "left out", "left out", "left out"]
    assert file.left_out == "3 runs: no run has succeeded in the given time"


def test_a_shortened_grid_has_every_level(recipe_file: Path, execution: Execution) -> None:
    file = sweep(request(recipe_file, points=2, seeds=(17,)), execution)
    assert len(calls(execution)) == len(file.trials) == 2
    for factor in FACTORS:
        assert {trial.values[factor.key] for trial in file.trials} == set(factor.levels)


def test_a_command_has_the_launcher_before_it_and_the_options_after_it(recipe_file: Path) -> None:
    """`--launcher` and the words after `--` reach the process of every run."""
    asked = request(recipe_file)
    trial = Trial(number=1, values={"corpus.heldout": 0.1}, seed=3, run="sweep-p01-s3")
    for launcher, options in (((), ()), (("srun", "--gpus", "1"), ("--num_processes", "2"))):
        execution = Execution(recipe_file.parent / "runs", 1, launcher, options)
        folder = recipe_file.parent / "runs" / f"sweep-{len(launcher)}"
        folder.mkdir(parents=True)
        command = COMMAND(running._Sweep(SweepState(folder, asked), execution, null_listener), trial)
        assert tuple(command[: len(launcher)]) == launcher
        assert command[len(launcher) : len(launcher) + 4] == [sys.executable, "-m", "cpt", "run"]
        assert {"corpus.heldout=0.1", "seed=3", "name=sweep-p01-s3"} <= set(command)
        assert tuple(command[len(command) - len(options) :]) == options
        assert ("--" in command) == bool(options)


def test_as_many_runs_as_asked_for_go_on_at_a_time(recipe_file: Path, execution: Execution) -> None:
    for jobs in (1, 3):
        running_now: list[int] = []
        going: set[str] = set()

        def count(event: SweepEvent, going: set[str] = going, seen: list[int] = running_now) -> None:
            (going.add if event.kind == "starts" else going.discard)(event.trial.run)
            seen.append(len(going))

        sweep(request(recipe_file, name=f"jobs-{jobs}"), Execution(execution.runs, jobs), count)
        assert max(running_now) == jobs


def test_as_many_first_runs_as_go_on_at_a_time_tell_the_times(
    recipe_file: Path, execution: Execution, clock: Any
) -> None:
    """One of three at a time would leave two thirds of the time unused, and be counted as a third of it."""
    execution.runs.mkdir()
    for number in range(1, 5):
        (execution.runs / f"broken-sweep-p0{number}-s17").touch()
    asked = request(recipe_file, seeds=(17,), seconds=60.0)
    file = sweep(asked, Execution(execution.runs, jobs=3), clock.forward)
    assert [trial.state for trial in file.trials] == ["failed", "failed", "failed", "left out"]


def test_tpe_keeps_all_results_where_a_failed_run_does_not_fit_again(
    recipe_file: Path, execution: Execution, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """p02 fails; the same command with no time left tries it no more, and loses nothing."""
    monkeypatch.setattr(running._Sweep, "_measure", lambda *_: Estimates())
    monkeypatch.setattr("cpt.sweep.budget.times_of", lambda *_: Times({}, {}, around=10.0))
    factors = (Factor(key="pretrain.schedule.peak", low=1e-5, high=1e-3, log=True), FACTORS[1])
    execution.runs.mkdir()
    (execution.runs / "broken-sweep-p02-s17").touch()
    asked = {"factors": factors, "method": "tpe", "points": 4, "seeds": (17,), "seconds": 1_000.0}
    first = sweep(request(recipe_file, **asked), execution, clock.forward)
    assert [trial.state for trial in first.trials] == ["done", "failed", "done", "done"]
    none = sweep(request(recipe_file, **(asked | {"seconds": 1.0})), execution, clock.forward)
    assert [trial.state for trial in none.trials] == ["done", "left out", "done", "done"]
    assert [trial.values for trial in none.trials] == [trial.values for trial in first.trials]
