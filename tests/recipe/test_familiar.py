"""Keys that other trainers have: the error names ours, and ours exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from cpt.errors import RecipeError
from cpt.recipe.authoring import templates
from cpt.recipe.explain import _models_in, _names
from cpt.recipe.familiar import FAMILIAR, Ours
from cpt.recipe.load import load
from cpt.recipe.schema import RecipeFile
from cpt.stages import stages


def keys_of(models: list[type[BaseModel]], key: str) -> bool:
    """Return True if one of the models has the key, followed along its dots."""
    first, _, rest = key.partition(".")
    for model in models:
        for name, info in model.model_fields.items():
            if first in (name, info.alias) and (not rest or keys_of(_models_in(info.annotation), rest)):
                return True
    return False


@pytest.mark.parametrize(("key", "ours"), FAMILIAR.items())
def test_what_is_named_exists_and_the_familiar_key_does_not(key: str, ours: Ours) -> None:
    config = stages()[ours.stage].Config if ours.stage else RecipeFile
    assert keys_of([config], ours.key)
    if ours.stage:
        assert key not in _names(config)


def test_the_error_names_ours_in_blocks_of_settings(tmp_path: Path) -> None:
    path = tmp_path / "quickstart.yaml"
    path.write_text(templates()["quickstart"])
    keys = [
        "pretrain.schedule.lr",
        "pretrain.optimizer.lr",
        "corpus.domain.0.dataset",
        "pretrain.monitor.max_tokens",
    ]
    with pytest.raises(RecipeError) as caught:
        load(path, [f"{key}=1" for key in keys])
    hints = {problem.key: problem.hint for problem in caught.value.problems}
    assert [hints[key] for key in keys[:2]] == ["It is `schedule.peak` of a pretrain stage here."] * 2
    assert "`path`" in str(hints[keys[2]])  # a source's own keys, and not those of a stage
    assert hints[keys[3]] == "Did you mean `tokens`?"


def test_the_error_names_ours(recipe_file: Path) -> None:
    text = recipe_file.read_text()
    recipe_file.write_text(text.replace("name: medical", "name: medical\nmodel_name_or_path: base"))
    with pytest.raises(RecipeError) as caught:
        load(recipe_file, ["pretrain.learning_rate=1e-4", "corpus.cutoff_len=512"])
    hints = {problem.key: problem.hint for problem in caught.value.problems}
    assert hints == {
        "model_name_or_path": "It is the recipe's `base` here.",
        "pretrain.learning_rate": "It is `schedule.peak` of a pretrain stage here.",
        "corpus.cutoff_len": "It is `sequence_length` of a corpus stage here.",
    }
