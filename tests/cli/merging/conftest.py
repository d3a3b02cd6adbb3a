"""Tiny models in a folder of their own, and `cpt merge` there."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "merging"))

from merge_models import WORDS, write_model

from cpt.cli import main


@dataclass(frozen=True)
class Shown:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Merge = Callable[..., Shown]


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
def merge(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Merge:
    """Call `cpt merge` in an empty folder that has links to the models."""
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cpt.cli.quiet_libraries", lambda: None)

    def call(*words: object) -> Shown:
        capsys.readouterr()
        code = main(["merge", *map(str, words)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Shown(code, captured.out, captured.err)

    return call


def entries(folder: Path) -> set[str]:
    """Everything in a folder, also what is hidden."""
    return {path.name for path in folder.iterdir()}
