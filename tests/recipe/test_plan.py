"""The plan: what runs, what is kept, and why; and what the selecting options mean."""

from __future__ import annotations

from pathlib import Path

import fake_stages
import pytest

from cpt.errors import RecipeError, UsageError
from cpt.recipe.load import load
from cpt.recipe.plan import Plan, Selection, make_plan
from cpt.recipe.runner import run
from cpt.recipe.store import Store

ALL = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]


def plan(recipe_file: Path, *overrides: str, **selection: object) -> Plan:
    recipe = load(recipe_file, overrides)
    store = Store(recipe_file.parent / "runs" / recipe.name)
    return make_plan(recipe, store, Selection(**selection))  # type: ignore[arg-type]


def actions(made: Plan) -> dict[str, str]:
    return {entry.step.name: entry.action for entry in made.entries}


def whys(made: Plan) -> dict[str, str]:
    return {entry.step.name: entry.why for entry in made.entries}


@pytest.fixture
def finished(recipe_file: Path) -> Path:
    """The recipe after a complete run."""
    run(load(recipe_file), recipe_file.parent / "runs")
    return recipe_file


def test_nothing_is_made_at_first(recipe_file: Path) -> None:
    made = plan(recipe_file)
    assert actions(made) == dict.fromkeys(ALL, "run")
    assert set(whys(made).values()) == {"not made yet"}
    assert made.needs_base
    assert made.entries[2].forecast == "1000 tokens in 5 steps"


def test_nothing_runs_twice(finished: Path) -> None:
    made = plan(finished)
    assert actions(made) == dict.fromkeys(ALL, "cached")
    assert not made.needs_base
    assert made.to_run == ()


@pytest.mark.parametrize(
    ("override", "stale", "why"),
    [
        ("corpus.heldout=0.1", ALL, "heldout 0.02 → 0.1"),
        ("pretrain.schedule.peak=1e-4", ALL[2:], "schedule.peak 0.0003 → 0.0001"),
        (
            "pretrain.schedule={kind: constant}",
            ALL[2:],
            "schedule.kind rewarm-cosine → constant; schedule.peak 0.0003 → 0.0001; "
            "schedule.warmup = 0.05 is gone",
        ),
        ("merge.models.0.weight=0.5", ALL[3:], "models.0.weight 0.9 → 0.5"),
        ("evaluate.items=3", ALL[4:], "items 10 → 3"),
        ("evaluate.from=pretrain", ALL[4:], "after comes from pretrain instead of merge"),
    ],
)
def test_a_change_makes_its_stage_and_later_ones_stale(
    finished: Path, override: str, stale: list[str], why: str
) -> None:
    made = plan(finished, override)
    assert [name for name, action in actions(made).items() if action == "stale"] == stale
    assert [name for name, action in actions(made).items() if action == "cached"] == ALL[: -len(stale)]
    assert whys(made)[stale[0]] == why
    if len(stale) > 1:
        assert f"its input {stale[0]} changes" in whys(made)[stale[1]] or stale[1] == "report"


def test_the_seed_makes_everything_stale(finished: Path) -> None:
    made = plan(finished, "seed=18")
    assert actions(made) == dict.fromkeys(ALL, "stale")
    assert whys(made)["corpus"] == "seed 17 → 18"
    assert whys(made)["pretrain"] == "seed 17 → 18; its input vocabulary changes"


def test_another_base_model_makes_its_readers_stale(finished: Path) -> None:
    made = plan(finished, "base=fake:other")
    assert whys(made)["corpus"] == "the base model is another"


def test_the_content_of_a_data_file_counts(finished: Path) -> None:
    (finished.parent / "notes.txt").write_text("Something else.\n")
    made = plan(finished)
    assert actions(made)["corpus"] == "stale"
    assert whys(made)["corpus"] == "the content of notes.txt changed"


def test_a_new_code_contract_counts(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_stages.Pretrain, "contract", 2)
    made = plan(finished)
    assert actions(made)["vocabulary"] == "cached"
    assert whys(made)["pretrain"] == "pretrain works differently (contract 1 → 2)"


def test_many_changes_are_summed_up(finished: Path) -> None:
    overrides = [
        "heldout=0.1",
        "sequence_length=16",
        "domain.0.format=text",
        "replay.self_generated.tokens=3",
    ]
    made = plan(finished, *(f"corpus.{each}" for each in overrides), "corpus.domain.0.path=a:b")
    assert whys(made)["corpus"].endswith("and 2 more settings")


def test_a_name_and_an_equal_from_change_nothing(finished: Path) -> None:
    assert actions(plan(finished, "evaluate.from=merge"))["evaluate"] == "cached"


def test_going_back_finds_the_old_result(finished: Path) -> None:
    run(load(finished, ["evaluate.items=3"]), finished.parent / "runs")
    assert set(actions(plan(finished)).values()) == {"cached"}


@pytest.mark.parametrize("content", ["{broken", "[" * 100_000, "[]", '{"name": 1}', "\0", None])
def test_a_result_with_a_damaged_record_is_named_and_made_again_when_asked(
    finished: Path, content: str | None
) -> None:
    store = Store(finished.parent / "runs" / "medical")
    (record,) = store.artifacts("merge")
    file = record.folder / "artifact.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(RecipeError) as caught:
        plan(finished)
    (problem,) = caught.value.problems
    assert (problem.key, problem.file) == ("merge", str(record.folder))
    assert "artifact.json" in problem.message
    assert "--force merge" in str(problem.hint)
    run(load(finished), finished.parent / "runs", Selection(force=("merge",)))
    assert set(actions(plan(finished)).values()) == {"cached"}


def test_force_runs_a_stage_and_what_is_made_from_it_again(finished: Path) -> None:
    made = plan(finished, force=("merge",))
    assert [entry.step.name for entry in made.to_run] == ["merge", "evaluate", "report"]
    assert whys(made)["merge"] == "asked for with --force"
    assert whys(made)["evaluate"] == "made from merge, run again"


def test_force_all(finished: Path) -> None:
    assert [entry.step.name for entry in plan(finished, force=("all",)).to_run] == ALL


def test_force_with_only_leaves_the_rest(finished: Path) -> None:
    made = plan(finished, force=("merge",), only="merge")
    assert [entry.step.name for entry in made.to_run] == ["merge"]
    assert whys(made)["evaluate"] == "made already"


def test_until(recipe_file: Path) -> None:
    made = plan(recipe_file, until="pretrain")
    assert [entry.step.name for entry in made.to_run] == ALL[:3]
    assert actions(made)["merge"] == "skipped"


def test_from_needs_the_results_before_it(recipe_file: Path) -> None:
    with pytest.raises(
        UsageError, match="--from pretrain: pretrain needs the result of vocabulary"
    ) as caught:
        plan(recipe_file, from_="pretrain")
    assert caught.value.exit_code == 2
    run(load(recipe_file), recipe_file.parent / "runs", Selection(until="vocabulary"))
    made = plan(recipe_file, from_="pretrain")
    assert [entry.step.name for entry in made.to_run] == ALL[2:]


def test_only(finished: Path) -> None:
    made = plan(finished, "pretrain.steps=6", only="pretrain")
    assert [entry.step.name for entry in made.to_run] == ["pretrain"]
    assert actions(made)["merge"] == "skipped"
    with pytest.raises(UsageError, match="needs the result of pretrain"):
        plan(finished, "pretrain.steps=6", only="merge")


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"from_": "pretrian"}, "--from: the recipe has no stage `pretrian`\n.*`pretrain`"),
        ({"until": "nothing"}, "--until: the recipe has no stage"),
        ({"only": "base"}, "--only: the recipe has no stage"),
        ({"force": ("merg",)}, "--force: the recipe has no stage `merg`\n.*`merge`"),
        ({"from_": "merge", "until": "corpus"}, "comes after"),
        ({"only": "merge", "until": "corpus"}, "cannot be combined"),
    ],
)
def test_selections_that_make_no_sense(recipe_file: Path, selection: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(recipe_file, **selection)


def test_planning_changes_nothing(recipe_file: Path) -> None:
    plan(recipe_file)
    assert not (recipe_file.parent / "runs").exists()
