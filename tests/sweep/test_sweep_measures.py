"""Measures that no run makes are found before the first run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_tiny_model

from cpt.errors import UsageError
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe
from cpt.sweep.measures import require_measured

RECIPE = """\
name: tiny
base: model
stages:
  - corpus:
      domain: [{path: notes.txt, part: notes}, {path: notes.txt, part: letters}]
  - pretrain: {tokens: 100}
  - evaluate: {}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measures")
    write_tiny_model(folder / "model")
    (folder / "notes.txt").write_text("A fever is a fever.\n")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load(folder / "tiny.yaml", overrides)


@pytest.mark.parametrize(
    ("measure", "hint", "settings"),
    [
        ("general", "`general`: text that is only measured", ["corpus.general=[{path: notes.txt}]"]),
        ("law", "Known here: `domain`", ["pretrain.monitor.texts={law: {sources: [{path: notes.txt}]}}"]),
        ("domain.notes", "`domain`", ["pretrain.monitor.parts=true"]),
        ("suite:medical", "evaluate.suites", ["evaluate.suites=[medical]"]),
        ("recall:trained", "corpus.study", ["corpus.study={}"]),
    ],
)
def test_a_measure_that_no_run_will_have(folder: Path, measure: str, hint: str, settings: list[str]) -> None:
    with pytest.raises(UsageError, match="will not measure") as caught:
        require_measured(recipe(folder), ["domain", measure])
    assert hint in (caught.value.hint or "")
    require_measured(recipe(folder, *settings), ["domain", measure])
