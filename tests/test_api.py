"""The Python interface, as its documentation shows it."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.workspace import copy_of

import cpt
from cpt.errors import RecipeError


@pytest.fixture
def folder(finished_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished workspace as the working folder."""
    copy_of(finished_workspace, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "work" / "cache"))
    return tmp_path / "work"


def test_run_as_its_docstring_shows(folder: Path) -> None:
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(cpt.run.__doc__ or ""):
        exec(example.source, names)
    result = names["result"]
    assert isinstance(result, cpt.RunResult)
    assert (result.exit_code, result.held, result.folder) == (0, True, folder / "runs" / "tiny")
    actions = {stage.name: stage.action for stage in result.stages.values()}
    assert actions == dict.fromkeys(["corpus", "vocabulary", "pretrain", "merge", "evaluate"], "cached") | {
        "report": "stale"
    }
    assert (result.stages["pretrain"].folder / "model" / "config.json").is_file()
    assert result.stages["evaluate"].metrics
    assert "First try" in result.report.read_text()


def test_mistakes_are_raised_with_all_problems(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        cpt.run("recipe.yaml", overrides=["corpus.heldout=2", "pretrain.tokns=1"])
    assert {problem.key for problem in caught.value.problems} == {"corpus.heldout", "pretrain.tokns"}
    with pytest.raises(RecipeError, match="no such file"):
        cpt.run(folder / "none.yaml")


def test_importing_cpt_loads_nothing_and_all_names_are_there() -> None:
    code = "import sys, cpt; assert not {'torch', 'cpt.api', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
    assert all(getattr(cpt, name) is not None for name in cpt.__all__)
