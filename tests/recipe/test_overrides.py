"""`a.b=value` sets the recipe, through the same validation, and mistakes point at the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpt.errors import RecipeError
from cpt.recipe.load import load


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("seed=3", lambda recipe: recipe.seed, 3),
        ("name=other", lambda recipe: recipe.name, "other"),
        ("base=fake:another", lambda recipe: recipe.base, "fake:another"),
        ("pretrain.schedule.peak=1e-4", lambda recipe: recipe.step("pretrain").config.schedule.peak, 1e-4),
        ("pretrain.tokens=24_000", lambda recipe: recipe.step("pretrain").config.tokens, 24000),
        ("pretrain.tokens=all", lambda recipe: recipe.step("pretrain").config.tokens, "all"),
        ("pretrain.compile=true", lambda recipe: recipe.step("pretrain").config.compile, True),
        ("evaluate.items=3", lambda recipe: recipe.step("evaluate").config.items, 3),
        ("corpus.domain.0.format=text", lambda recipe: recipe.step("corpus").config.domain[0].format, "text"),
        (
            "corpus.replay.self_generated.tokens=5",
            lambda recipe: recipe.step("corpus").config.replay.self_generated.tokens,
            5,
        ),
        ("corpus.domain=[{path: a:b}]", lambda recipe: recipe.step("corpus").config.domain[0].path, "a:b"),
        ("corpus.domain.0.path=x:a=b", lambda recipe: recipe.step("corpus").config.domain[0].path, "x:a=b"),
        ("corpus.replay=", lambda recipe: recipe.step("corpus").config.replay, None),
    ],
)
def test_values_are_set(recipe_file: Path, override: str, read: Any, value: object) -> None:
    recipe = load(recipe_file, [override])
    assert read(recipe) == value
    assert recipe.overrides == (override,)


def test_a_renamed_stage_is_set_by_its_name(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("  - evaluate:", "  - evaluate: {name: final}"))
    assert load(recipe_file, ["final.items=3"]).step("final").config.items == 3  # type: ignore[attr-defined]


def test_later_overrides_win(recipe_file: Path) -> None:
    assert load(recipe_file, ["seed=3", "seed=4"]).seed == 4


@pytest.mark.parametrize(
    ("override", "key", "message", "hint"),
    [
        ("faster", None, "`faster` is not an override", "key=value"),
        ("=3", None, "is not an override", "key=value"),
        ("pretrain..x=3", None, "is not an override", "key=value"),
        ("sead=3", "sead", "no key and no stage `sead`", "`seed`"),
        ("pretrian.tokens=3", "pretrian.tokens", "no stage `pretrian`", "`pretrain`"),
        ("pretrain=3", "pretrain", "is a stage", "pretrain.key=value"),
        ("seed.x=3", "seed.x", "single value", "seed=value"),
        ("stages.0.corpus.heldout=3", "stages.0.corpus.heldout", "by their names", "pretrain.tokens"),
        ("pretrain.tokns=3", "pretrain.tokns", "unknown key", "`tokens`"),
        ("pretrain.schedule.peek=3", "pretrain.schedule.peek", "unknown key", "`peak`"),
        ("pretrain.steps=0", "pretrain.steps", "at least 1", ""),
        ("pretrain.steps.x=0", "pretrain.steps.x", "single value", "pretrain.steps=value"),
        ("corpus.domain.1.path=x", "corpus.domain.1.path", "list of 1 item has no item `1`", "0 to 0"),
        ("corpus.domain.first.path=x", "corpus.domain.first.path", "no item `first`", ""),
        ("corpus.domain.0.path=gone.txt", "corpus.domain.0.path", "no file gone.txt", ""),
        ("corpus.sequence_length=9999", "corpus.sequence_length", "longer than", ""),
        ("evaluate.from=nobody", "evaluate.from", "no stage called", ""),
        ("pretrain.tokens=[1,", "pretrain.tokens", "not valid YAML", "Quote"),
        ("base=gone", "base", "no file gone", ""),
    ],
)
def test_mistakes_point_at_the_command_line(
    recipe_file: Path, override: str, key: str | None, message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load(recipe_file, [override])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == ("command line", None, key)
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_other_mistakes_keep_their_lines(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("steps: 5", "steps: 0"))
    with pytest.raises(RecipeError) as caught:
        load(recipe_file, ["seed=x"])
    assert [(each.file, each.line) for each in caught.value.problems] == [
        ("command line", None),
        (str(recipe_file), 13),
    ]
