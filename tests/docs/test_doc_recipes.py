"""Every YAML block of the documentation that is a recipe, or a part of one, has settings that exist."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, Block, blocks
from pydantic import ValidationError

from cpt.errors import RecipeError
from cpt.recipe.document import read
from cpt.recipe.explain import findings
from cpt.recipe.schema import RecipeFile, read_items
from cpt.stages import stages

SUITE = {"about", "tasks"}
"""Keys of a suite file, which is no recipe (evals/registry.py)."""


def as_recipe(block: str) -> str | None:
    """Complete a part of a recipe to a whole one, so that the recipe's own reader takes it.

    Returns:
        The text of a recipe; None if the block is a file of another kind.
    """
    text = textwrap.dedent(block)
    top = {line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    kinds = stages()
    if "stages" in top:
        return text
    if top >= SUITE:
        return None
    head = "name: part\nbase: base\nstages:\n"
    if text.startswith("- "):
        return head + textwrap.indent(text, "  ")
    if top <= set(kinds):
        if len(top) > 1:
            raise AssertionError(f"stages without a list: {sorted(top)}")
        return head + "  - " + textwrap.indent(text, "    ").lstrip()
    owners = [kind for kind, stage in kinds.items() if top <= set(stage.Config.model_fields)]
    assert owners, f"no stage has the keys {sorted(top)}"
    return head + f"  - {owners[0]}:\n" + textwrap.indent(text, "      ")


def mistakes(recipe: Path, partial: bool) -> list[str]:
    """Return the mistakes in a recipe's settings. Whether files exist is not looked at.

    Args:
        partial: True if required keys may be left out.
    """
    try:
        document = read(recipe)
    except RecipeError as error:
        return [str(error)]
    kinds = stages()
    items, problems = read_items(document, kinds.keys())
    found = [str(problem) for problem in problems]
    found += _mistakes_of(RecipeFile, document.data, partial=False)
    for item in items:
        if item.known:
            found += [
                f"{item.kind}.{each}"
                for each in _mistakes_of(kinds[item.kind].Config, item.settings, partial)
            ]
    return found


def _mistakes_of(model: Any, data: Any, partial: bool) -> list[str]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        if partial and all(each["type"] == "missing" for each in error.errors()):
            return []
        return [f"{'.'.join(map(str, each.where))}: {each.message}" for each in findings(error, model, data)]
    return []


@pytest.mark.parametrize("block", blocks("yaml", "yml"), ids=str)
def test_settings_of_a_block_exist(block: Block, tmp_path: Path) -> None:
    recipe = as_recipe(block.text)
    if recipe is not None:
        (file := tmp_path / "recipe.yaml").write_text(recipe)
        assert mistakes(file, partial="stages:" not in block.text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nbase: b\nstages:\n  - corpus: {domian: []}\n", "domian"),
        ("  - pretrain: {tokens: 10, schedule: {kind: wds}}\n", "wds"),
        ("corpus:\n  heldout: 2\n", "heldout"),
        ("- pretran: {tokens: 10}\n", "pretran"),
    ],
)
def test_mistakes_are_found(text: str, words: str, tmp_path: Path) -> None:
    (file := tmp_path / "recipe.yaml").write_text(as_recipe(text) or "")
    assert any(words in each for each in mistakes(file, partial="stages:" not in text))


def test_the_recipes_are_whole() -> None:
    assert all(mistakes(file, partial=False) == [] for file in (ROOT / "recipes").glob("*.yaml"))
