"""A folder with a recipe and its data, and the engine wired to fake stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fake_stages
import pytest


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`recipe.yaml` beside its `notes.txt`; the fake stages and references stand in for the real ones."""
    fake_stages.FakeReferences(tmp_path / "cache").replace(monkeypatch.setattr)
    monkeypatch.setattr("cpt.stages.stages", lambda: fake_stages.REGISTRY)
    (tmp_path / "notes.txt").write_text("Fever is a symptom.\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(fake_stages.RECIPE)
    fake_stages.HOOKS.clear()
    fake_stages.RAN.clear()
    yield path
    fake_stages.HOOKS.clear()
