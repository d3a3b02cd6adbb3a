"""The settings of recipes by key, and where they differ."""

from __future__ import annotations

from typing import Any

import fake_stages

from cpt.recipe.diff import differing, in_order, settings_of

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
