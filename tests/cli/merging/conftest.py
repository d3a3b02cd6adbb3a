"""Tiny models in a folder of their own, and `cpt merge` there."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "merging"))

from merge_models import WORDS, write_model

Merge = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, `law` and `med` share a vocabulary; `long` has two tokens more; `wide` is of another width."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "law", "med"), start=1):
        write_model(folder / name, seed)
    write_model(folder / "long", 4, (*WORDS, "liver", "spleen"))
    write_model(folder / "wide", 5, hidden_size=32)
    return folder


@pytest.fixture
def merge(models: Path, called: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Merge:
    """Call `cpt merge` in an empty folder that has links to the models."""
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    return partial(called, "merge")


def entries(folder: Path) -> set[str]:
    """Everything in a folder, also what is hidden."""
    return {path.name for path in folder.iterdir()}
