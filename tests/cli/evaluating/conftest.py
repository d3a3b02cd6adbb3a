"""Two tiny models, a suite of one's own over data sets as published, and the command in their folder."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny import varied_texts, write_jsonl, write_tiny_model

sys.path.insert(0, str(Path(__file__).parents[2] / "evals"))
sys.path.insert(0, str(Path(__file__).parents[2] / "stages"))

from eval_words import ON_DATA, Run
from toy_suite import write_toy


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return write_tiny_model(folder / "before"), write_tiny_model(folder / "after", seed=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite, the data, and texts; results and caches gather in it."""
    folder = write_toy(tmp_path_factory.mktemp("evaluations"))
    write_jsonl(folder / "text.jsonl", [*varied_texts(12), "x"])
    (folder / "nothing").mkdir()
    return folder


@pytest.fixture
def run(called: Run, monkeypatch: pytest.MonkeyPatch, place: Path) -> Run:
    """Call `cpt eval` in that folder: exit code, standard output, standard error."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("CPT_CACHE", str(place / "cache"))
    return partial(called, "eval")


@pytest.fixture
def facts(run: Run) -> Callable[..., Any]:
    """Call the command with --json, which must succeed."""

    def call(*words: object) -> Any:
        code, out, err = run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.fixture
def evaluated(facts: Any, models: tuple[Path, Path], place: Path) -> list[str]:
    """Folders of the results of both models, evaluated for the first test that wants them."""
    kept = place / "evaluated.json"
    if not kept.exists():
        kept.write_text(json.dumps([each["folder"] for each in facts("run", *models, *ON_DATA)["models"]]))
    return json.loads(kept.read_text())
