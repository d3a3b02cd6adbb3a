"""Times of a sweep: priced by the estimator, corrected by finished runs, each stage once."""

from __future__ import annotations

from pathlib import Path

import pytest
from asked_sweeps import HOUR, request

from cpt.json_file import write_json
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.runner import run as run_recipe
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.sweep import run as running
from cpt.sweep.configurations import configurations, overrides_of
from cpt.sweep.estimates import FILE, Estimates, kept_estimates
from cpt.sweep.process import Execution
from cpt.sweep.run import null_listener
from cpt.sweep.state import SweepState, Trial
from cpt.sweep.time_limit import Times, times_of, work_of


@pytest.fixture
def trials(recipe_file: Path) -> list[Trial]:
    """Four configurations, of which two each share a corpus."""
    return [
        Trial(number=number, values=values, seed=17, run=f"sweep-p0{number}-s17")
        for number, values in enumerate(configurations(request(recipe_file)) or (), start=1)
    ]


def recipes_of(recipe_file: Path, trials: list[Trial]) -> dict[str, Recipe]:
    asked = request(recipe_file)
    return {each.run: load(recipe_file, overrides_of(asked, each.values, 17, each.run)) for each in trials}


def test_shared_stages_are_counted_once(recipe_file: Path, trials: list[Trial]) -> None:
    """Each of four pretrain stages takes two seconds, each of two corpora one."""
    recipes, runs = recipes_of(recipe_file, trials), recipe_file.parent / "runs"
    known = Times({each.number: {"pretrain": 2.0} for each in trials}, {"corpus": 1.0})
    made, seconds, unknown = frozenset[str](), list[float](), set[str]()
    for trial in trials:
        work = work_of(trial, recipes[trial.run], runs, made)
        made |= work.making
        seconds.append(work.seconds(known))
        unknown |= work.unknown(known)
        assert work.seconds(known._replace(around=3.0)) == pytest.approx(seconds[-1] + 3.0)
    assert seconds == pytest.approx([3.0, 3.0, 2.0, 2.0])
    assert unknown == {"vocabulary", "merge", "evaluate", "report"}


def test_finished_runs_correct_the_estimates(recipe_file: Path) -> None:
    """The second configuration is estimated at five times the first one, and stays so."""
    asked, runs = request(recipe_file), recipe_file.parent / "runs"
    values = (configurations(asked) or [])[0]
    trial = Trial(number=1, values=values, seed=17, run="sweep-p01-s17", state="done", seconds=100.0)
    done = run_recipe(load(recipe_file, overrides_of(asked, values, 17, trial.run)), runs)
    took = done.artifacts["pretrain"].seconds
    estimated = {1: {"pretrain": 10.0}, 2: {"pretrain": 50.0}}
    entry = next(each for each in done.plan.entries if each.step.name == "pretrain")
    corpus = next(each for each in done.plan.entries if each.step.name == "corpus")
    before = times_of([], estimated, runs, 2.0)
    assert (before.of(1, entry), before.of(2, entry), before.of(1, corpus)) == (20.0, 100.0, None)
    after = times_of([trial], estimated, runs, 2.0)
    assert after.of(1, entry) == pytest.approx(took)
    assert after.of(2, entry) == pytest.approx(5 * took)
    assert after.of(3, entry) == pytest.approx(took)  # it has no estimate
    assert after.of(2, corpus) == pytest.approx(done.artifacts["corpus"].seconds)
    inside = sum(record.seconds for record in done.artifacts.values())
    assert after.around == pytest.approx(100.0 - inside)
    other = trial.model_copy(update={"seconds": 3_000.0})  # it waited for the first one's stages
    assert times_of([trial, other], estimated, runs, 2.0).around == pytest.approx(100.0 - inside)


def test_the_time_of_a_killed_run_is_subtracted(recipe_file: Path, trials: list[Trial]) -> None:
    recipes, runs = recipes_of(recipe_file, trials), recipe_file.parent / "runs"
    known = Times({1: {"pretrain": 20.0}}, {})
    (trial, recipe), store = (trials[0], recipes[trials[0].run]), Store(runs / trials[0].run)
    entry = next(each for each in make_plan(recipe, store).to_run if each.step.name == "pretrain")
    assert work_of(trial, recipe, runs).seconds(known) == 20.0
    store.work_folder("pretrain", entry.fingerprint).mkdir(parents=True)
    store.note_elapsed("pretrain", entry.fingerprint, 15.0)
    assert work_of(trial, recipe, runs).seconds(known) == 20.0  # it left nothing to go on with
    (store.work_folder("pretrain", entry.fingerprint) / "checkpoint").mkdir()
    assert work_of(trial, recipe, runs).seconds(known) == 5.0


def test_estimates_are_kept_until_the_recipe_changes(recipe_file: Path) -> None:
    folder = recipe_file.parent / "runs" / "sweep"
    folder.mkdir(parents=True)
    state = SweepState(folder, request(recipe_file))
    known = Estimates(
        recipe_sha256=state.file().recipe_sha256, seconds={"1": {"pretrain": 1.0}}, unknown={"2": "too large"}
    )
    write_json(folder / FILE, known.model_dump(mode="json"))
    assert kept_estimates(folder, state.file()) == known
    assert known.lacking([1, 2, 3]) == [3]
    recipe_file.write_text(recipe_file.read_text() + "\n# a remark\n")
    assert kept_estimates(folder, SweepState(folder, request(recipe_file)).file()).seconds == {}


def test_the_measurement_is_a_process_after_the_words_of_the_launcher(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure is the reason why there is no estimate."""
    asked = request(recipe_file, seconds=HOUR)
    execution = Execution(
        recipe_file.parent / "runs", launcher=("sh", "-c", "echo error: no GPU >&2; exit 1")
    )
    (execution.runs / "sweep").mkdir(parents=True)
    state = SweepState(execution.runs / "sweep", asked)
    found = running._Sweep(state, execution, null_listener)._measure([1, 2])
    assert found.unknown == {"1": "no GPU", "2": "no GPU"}
