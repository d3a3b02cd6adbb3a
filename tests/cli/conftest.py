"""The command as a function, in a folder with a recipe, over the fake stages of the recipe tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "recipe"))

import fake_stages

from cpt.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Call the command: `called("merge", "--base", folder)`."""
    monkeypatch.setattr("cpt.cli.silence_libraries", lambda: None)

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err or "--debug" in words
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`recipe.yaml` in the current folder, which is also where `runs` will be."""
    fake_stages.FakeReferences(tmp_path / "cache").replace(monkeypatch.setattr)
    monkeypatch.setattr("cpt.stages.stages", lambda: fake_stages.REGISTRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    (tmp_path / "notes.txt").write_text("Fever is a symptom.\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(fake_stages.RECIPE)
    fake_stages.HOOKS.clear()
    fake_stages.RAN.clear()
    yield path
    fake_stages.HOOKS.clear()


@pytest.fixture
def cpt(recipe_file: Path, called: Command) -> Command:
    """Call the command in the recipe's folder: `cpt("run", "recipe.yaml")`."""
    assert recipe_file.exists()
    return called
