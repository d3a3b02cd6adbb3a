"""The page of recipe keys is up to date, and names a reader for nearly every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doc_pages import script

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def recipe_keys() -> Any:
    return script("recipe_keys")


def test_the_page_is_up_to_date(recipe_keys: Any) -> None:
    assert recipe_keys.PAGE.read_text() == recipe_keys.page(), "run python docs/recipe_keys.py"


def test_keys_lead_to_the_files_that_implement_them(recipe_keys: Any) -> None:
    source = recipe_keys.Source()
    read = recipe_keys.readers(source)
    files = {key.path: recipe_keys.readers_of(key, read, source) for key in recipe_keys.all_keys()}
    assert "cpt/recipe/plan.py" in files["recipe.base"]
    assert files["pretrain.trainable[all].rates.norms"] == ["cpt/training/trainable/spec.py"]
    assert files["corpus.heldout_min.most"] == ["cpt/stages/corpus/writing.py"]
    assert "cpt/report/tables.py" not in files["pretrain.monitor.tasks.items"]  # it calls `items()`
    assert "cpt/training/features/l2_sp.py" in files["pretrain.l2_sp.strength"]
    assert "cpt/training/step.py" in files["pretrain.clip"]
    unread = [path for path, found in files.items() if not found]
    assert len(unread) < 0.05 * len(files), unread
