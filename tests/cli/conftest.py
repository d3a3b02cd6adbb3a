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
from tiny import clinical_texts, varied_texts, write_jsonl

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


def use_fake_stages(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a folder the current one, with a recipe over the fake stages; return the recipe."""
    fake_stages.FakeReferences(folder / "cache").replace(patch.setattr)
    patch.setattr("cpt.stages.stages", lambda: fake_stages.REGISTRY)
    patch.chdir(folder)
    patch.delenv("CPT_RUNS", raising=False)
    (folder / "notes.txt").write_text("Fever is a symptom.\n")
    path = folder / "recipe.yaml"
    path.write_text(fake_stages.RECIPE)
    fake_stages.HOOKS.clear()
    fake_stages.RAN.clear()
    return path


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`recipe.yaml` in the current folder, which is also where `runs` will be."""
    yield use_fake_stages(tmp_path, monkeypatch)
    fake_stages.HOOKS.clear()


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `medical` and, newer, `hurt`, to be copied."""
    folder = tmp_path_factory.mktemp("two_runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cpt.cli.silence_libraries", lambda: None)
        use_fake_stages(folder, patch)
        assert main(["run", "recipe.yaml"]) == 0
        assert main(["run", "recipe.yaml", "name=hurt"]) == 0
    return folder


@pytest.fixture
def cpt(recipe_file: Path, called: Command) -> Command:
    """Call the command in the recipe's folder: `cpt("run", "recipe.yaml")`."""
    assert recipe_file.exists()
    return called


@pytest.fixture
def run(called: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call the command in a folder with a domain text and a general one."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    write_jsonl(tmp_path / "general.jsonl", varied_texts(20, "general "))
    return called
