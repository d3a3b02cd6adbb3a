"""A recipe over the fake stages of the recipe tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "recipe"))

import fake_stages


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`recipe.yaml` beside its `notes.txt`; the fake stages and references stand in for the real ones."""
    fake_stages.FakeReferences(tmp_path / "cache").replace(monkeypatch.setattr)
    monkeypatch.setattr("cpt.stages.stages", lambda: fake_stages.REGISTRY)
    (tmp_path / "notes.txt").write_text("Fever is a symptom.\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(fake_stages.RECIPE)
    yield path
    fake_stages.HOOKS.clear()
