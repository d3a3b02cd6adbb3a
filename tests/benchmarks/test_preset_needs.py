"""The needs of presets are those of the recipe as it stands, with local models in the place of the hub's."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpt.recipe.authoring import template
from cpt.recipe.presets import Needs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import preset_needs

    return preset_needs


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    text = tmp_path / "own.jsonl"
    text.write_text('{"text": "A fever is a fever."}\n')
    return argparse.Namespace(text=text, gpu="h100", price=2.0)


def test_trainings_are_summed_and_the_largest_memory_is_taken(
    benchmark: Any, options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [
        {"tokens": 5, "peak_bytes": 30, "time": {"seconds": 7.0}},
        {"tokens": 6, "peak_bytes": 20, "time": {"seconds": 8.0}},
    ]
    asked: list[str] = []

    def estimate(words: list[Any], **_: Any) -> SimpleNamespace:
        asked.extend(map(str, words))
        return SimpleNamespace(returncode=0, stdout=json.dumps({"stages": stages}))

    monkeypatch.setattr(subprocess, "run", estimate)
    found = benchmark.needs_of("instruct", template("instruct"), options, tmp_path)
    assert found == Needs(gpu="h100", tokens=11, memory_bytes=30, training_seconds=15.0, price=2.0)
    assert asked[asked.index("--price") + 1] == "2.0"
    assert any(word.startswith("instructed.models.") for word in asked)  # no model of the hub
    assert not any(word.startswith("pretrain.tokens=") for word in asked)  # the recipe, not its tiny variant
    assert (tmp_path / "data" / "finance.jsonl").read_text() == options.text.read_text()


def test_a_recipe_that_cannot_be_estimated_ends_the_command(
    benchmark: Any, options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2, stdout="", stderr="no such file")
    )
    with pytest.raises(SystemExit, match=r"medical: .*no such file"):
        benchmark.needs_of("medical", template("medical"), options, tmp_path)
    assert benchmark.needs_of("zett-smollm2", template("zett-smollm2"), options, tmp_path) is None
