"""Import the studies of decisions, and give them options and texts."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiny import write_jsonl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def beside_texts(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let scripts import each other from their folder, and run beside the texts that commands name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("r", "g", "law", "it", "m", "l", "f"):
        write_jsonl(folder / f"{name}.jsonl", ["A fever is a fever."])
    monkeypatch.chdir(folder)


def module(name: str) -> Any:
    return import_module(f"decisions.{name}")


def options_of(folder: Path, study: str = "law", **more: Any) -> argparse.Namespace:
    """Return the options of a study, with texts that are there."""
    names = ("replay", "general", "law")
    replay, general, law = (write_jsonl(folder / f"{name}.jsonl", ["A fever is a fever."]) for name in names)
    words = {"study": study, "plan": "short", "seeds": "17,18,19", "override": [], "runs": folder}
    texts = {"replay": replay, "general": general, "domain": [("law", law)]}
    return argparse.Namespace(**(words | texts | more))
