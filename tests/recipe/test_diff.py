"""The settings of recipes by key, and where they differ.

Where two runs or recipes part, and what follows from what.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import ReferenceUnavailable
from cpt.recipe.diff import in_order
from cpt.recipe.journal import Journal, find_run
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.run_diff import Differences, differences, differing, settings_of, side_of_recipe, side_of_run
from cpt.recipe.runner import run
from cpt.recipe.store import Store

RECIPE: dict[str, Any] = {
    "name": "a",
    "base": "fake:model",
    "stages": [
        {"corpus": {"domain": [{"path": "notes.txt"}]}},
        {"pretrain": {"tokens": 100, "schedule": {"kind": "rewarm-cosine", "peak": 3e-4}}},
        "report",
    ],
}


def settings(**changed: Any):
    return settings_of({**RECIPE, **changed}, fake_stages.REGISTRY)


def found(*recipes: Any) -> dict[str, dict[str, Any]]:
    named = dict(zip("abc", recipes, strict=False))
    return {setting.key: setting.values for setting in differing(named)}


def test_what_a_recipe_leaves_out_counts_with_its_default() -> None:
    stages = settings().stages
    assert stages["pretrain"].all["schedule.warmup"] == 0.05
    assert stages["pretrain"].all["compile"] is False
    assert stages["corpus"].all["domain.0.path"] == "notes.txt"
    assert stages["report"].written == {}
    assert settings().top == {"name": "a", "base": "fake:model", "seed": 17}
    written = [{"corpus": {"domain": [{"path": "notes.txt"}], "heldout": 0.02}}, *RECIPE["stages"][1:]]
    assert found(settings(), settings(stages=written)) == {}


def test_settings_that_differ_are_named_by_stage_in_the_recipes_order() -> None:
    other = [
        {"corpus": {"domain": [{"path": "more.txt"}, {"path": "notes.txt"}], "heldout": 0.1}},
        {"pretrain": {"tokens": 100, "schedule": {"kind": "constant"}}},
        "report",
    ]
    differ = found(settings(), settings(name="b", seed=3, stages=other))
    assert list(differ) == [
        "name",
        "seed",
        "corpus.domain.0.path",
        "corpus.domain.1.path",
        "corpus.domain.1.format",
        "corpus.heldout",
        "pretrain.schedule.kind",
        "pretrain.schedule.peak",
        "pretrain.schedule.warmup",
    ]
    assert differ["seed"] == {"a": 17, "b": 3}
    assert differ["corpus.domain.1.path"] == {"b": "notes.txt"}
    assert differ["pretrain.schedule.peak"] == {"a": 3e-4, "b": 1e-4}
    assert differ["pretrain.schedule.warmup"] == {"a": 0.05}


def test_a_stage_that_one_recipe_lacks_is_one_setting() -> None:
    more = [*RECIPE["stages"][:1], {"vocabulary": {"items": 3}}, *RECIPE["stages"][1:]]
    assert found(settings(), settings(stages=more)) == {"vocabulary": {"b": {"items": 3}}}
    assert found(settings(stages=more), settings(stages=more), settings()) == {
        "vocabulary": {"a": {"items": 3}, "b": {"items": 3}}
    }


def test_named_stages_of_a_kind_are_told_apart_and_the_order_counts() -> None:
    two = [{"pretrain": {"name": "first", "tokens": 1}}, {"pretrain": {"name": "second", "tokens": 2}}]
    swapped = found(settings(stages=two), settings(stages=two[::-1]))
    assert swapped == {"stages": {"a": ["first", "second"], "b": ["second", "first"]}}
    chosen = [two[0], {"pretrain": {"name": "second", "tokens": 2, "from": "first"}}]
    assert found(settings(stages=two), settings(stages=chosen)) == {"second.from": {"b": "first"}}


def test_settings_as_they_ran_go_before_this_versions_defaults() -> None:
    ran = {"pretrain": {"tokens": 100, "steps": 9}}
    old = settings_of(RECIPE, fake_stages.REGISTRY, ran)
    assert found(old, settings())["pretrain.steps"] == {"a": 9, "b": 5}
    assert found(old, settings())["pretrain.compile"] == {"b": False}


def test_stages_that_this_version_does_not_know_are_taken_as_written() -> None:
    strange = [{"brew": {"strength": 1}}, {"pretrain": {"tokens": "many", "gone": 1}}]
    stages = settings(stages=strange).stages
    assert stages["brew"].all == {"strength": 1}
    assert stages["pretrain"].all == {"tokens": "many", "gone": 1}


def test_names_keep_their_order_as_far_as_lists_agree() -> None:
    assert in_order("ac", "abc") == ["a", "b", "c"]
    assert in_order("abc", "xbd") == ["x", "a", "b", "d", "c"]
    assert in_order("ab", "ba") == ["a", "b"]


CHAIN = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]


def recipe_with(recipe_file: Path, old: str, new: str) -> Path:
    text = recipe_file.read_text()
    assert old in text
    path = recipe_file.with_name("other.yaml")
    path.write_text(text.replace(old, new))
    return path


def between(a: Path, b: Path) -> Differences:
    return differences(*(side_of_recipe(path, fake_stages.REGISTRY) for path in (a, b)))


def states(found: Differences) -> dict[str, str]:
    return {stage.stage: stage.state for stage in found.stages}


def test_a_recipe_does_not_differ_from_itself(recipe_file: Path) -> None:
    found = between(recipe_file, recipe_file)
    assert (found.settings, found.sources, found.versions, found.first) == ([], [], {}, None)
    assert states(found) == dict.fromkeys(CHAIN, "same")


def test_a_changed_setting_is_the_cause_and_what_follows_follows(recipe_file: Path) -> None:
    found = between(recipe_file, recipe_with(recipe_file, "peak: 3e-4", "peak: 1e-4"))
    assert found.first is not None
    assert (found.first.stage, found.first.why, found.first.follows) == (
        "pretrain",
        ("schedule.peak 0.0003 → 0.0001",),
        (),
    )
    assert states(found) == dict.fromkeys(CHAIN[:2], "same") | dict.fromkeys(CHAIN[2:], "differs")
    merge = found.stages[3]
    assert (merge.why, merge.follows) == ((), ("pretrain",))


def test_a_setting_beside_the_result_leaves_results_the_same(recipe_file: Path, monkeypatch) -> None:
    monkeypatch.setattr(fake_stages.PretrainConfig, "not_fingerprinted", frozenset({"compile"}))
    found = between(recipe_file, recipe_with(recipe_file, "steps: 5", "steps: 5\n      compile: true"))
    assert found.first is None
    assert found.settings == []


def test_the_seed_and_the_base_differ_in_every_stage_that_they_reach(recipe_file: Path) -> None:
    seeded = between(recipe_file, recipe_with(recipe_file, "seed: 17", "seed: 3"))
    assert [stage.why for stage in seeded.stages] == [("seed 17 → 3",)] * 6
    based = between(recipe_file, recipe_with(recipe_file, "fake:model", "fake:other"))
    assert based.first is not None
    assert (based.first.stage, based.first.why) == ("corpus", ("the base model is another",))


def test_a_stage_of_one_side_alone(recipe_file: Path) -> None:
    found = between(recipe_file, recipe_with(recipe_file, "  - vocabulary: {items: 3}\n", ""))
    assert states(found)["vocabulary"] == "only in a"
    assert [stage.stage for stage in found.stages] == CHAIN
    assert found.first is not None
    assert found.first.stage == "vocabulary"
    assert found.stages[2].why == ()
    assert found.stages[2].follows == ("vocabulary",)


def test_a_run_against_its_recipe_and_against_changed_data(recipe_file: Path) -> None:
    run(load(recipe_file), recipe_file.parent / "runs")
    was = side_of_run(find_run(recipe_file.parent / "runs"), "medical", fake_stages.REGISTRY)
    same = differences(was, side_of_recipe(recipe_file, fake_stages.REGISTRY))
    assert same.first is None
    assert same.settings == []
    (recipe_file.parent / "notes.txt").write_text("Fever is a sign.\n")
    found = differences(was, side_of_recipe(recipe_file, fake_stages.REGISTRY))
    assert found.first is not None
    assert (found.first.stage, found.first.why) == ("corpus", ("the content of notes.txt changed",))
    (source,) = found.sources
    assert (source.stage, source.reference) == ("corpus", "notes.txt")
    assert source.a != source.b


def test_a_run_that_has_not_finished_is_told_by_its_fingerprints(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    store = Store(recipe_file.parent / "runs" / "medical")
    store.prepare()
    Journal(store.folder, recipe, make_plan(recipe, store).states)
    side = side_of_run(find_run(recipe_file.parent / "runs"), "medical", fake_stages.REGISTRY)
    other = side_of_recipe(recipe_with(recipe_file, "peak: 3e-4", "peak: 1e-4"), fake_stages.REGISTRY)
    found = differences(side, other)
    assert found.first is not None
    assert found.first.stage == "pretrain"
    assert found.sources == []


def test_versions_of_two_runs(recipe_file: Path) -> None:
    run(load(recipe_file), recipe_file.parent / "runs")
    known = find_run(recipe_file.parent / "runs")
    older = known.data["versions"] | {"torch": "0.1", "gone": "1"}
    before = type(known)(known.folder, {**known.data, "versions": older})
    a, b = (side_of_run(each, "x", fake_stages.REGISTRY) for each in (before, known))
    assert differences(a, b).versions == {
        "torch": ("0.1", known.data["versions"]["torch"]),
        "gone": ("1", None),
    }


def test_data_that_cannot_be_identified_leaves_the_settings_to_compare(
    recipe_file: Path, monkeypatch
) -> None:
    other = recipe_with(recipe_file, "peak: 3e-4", "peak: 1e-4")
    known = side_of_recipe(recipe_file, fake_stages.REGISTRY)

    def fail(_reference: str) -> str:
        raise ReferenceUnavailable("cannot be fetched")

    monkeypatch.setattr("cpt.references.fingerprint", fail)
    side = side_of_recipe(other, fake_stages.REGISTRY)
    assert side.unknown == "cannot be fetched"
    found = differences(known, side)
    assert states(found) == dict.fromkeys(CHAIN[:2], "unknown") | dict.fromkeys(CHAIN[2:], "differs")
    assert [setting.key for setting in found.settings] == ["pretrain.schedule.peak"]


@pytest.mark.parametrize("name", ["corpus", "report"])
def test_fingerprints_are_those_of_the_plan(recipe_file: Path, name: str) -> None:
    recipe = load(recipe_file)
    planned = {entry.step.name: entry.fingerprint for entry in make_plan(recipe, Store(Path("none"))).entries}
    assert side_of_recipe(recipe_file, fake_stages.REGISTRY).stages[name].fingerprint == planned[name]
