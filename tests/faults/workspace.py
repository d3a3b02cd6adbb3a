"""A folder in which everything is right: a tiny model, texts, a recipe, a finished run, results of models."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

from tiny import write_chain, write_tiny_model
from toy_suite import write_toy

from faults.forking import run

SHORT = """\
name: short
base: model
stages:
  - corpus: {domain: [{path: domain.jsonl}], heldout: 0.2, sequence_length: 48}
  - pretrain: {tokens: 200, batch_sequences: 4, monitor: {every: 3, window: 64}}
"""
MERGE = """\
base: model
method: task-arithmetic
models:
  - {model: second, weight: 0.5}
"""


def write_workspace(folder: Path) -> Path:
    """Write the model, a second one of its kind, texts, two recipes, a merge file and a suite."""
    write_chain(folder)
    write_toy(folder)
    write_tiny_model(folder / "second", seed=1)
    (folder / "short.yaml").write_text(SHORT)
    (folder / "merge.yaml").write_text(MERGE)
    return folder


def write_finished_workspace(folder: Path) -> Path:
    """Write a workspace with a finished run of every stage and a finished short one."""
    write_workspace(folder)
    for recipe in ("short.yaml", "recipe.yaml"):
        ended = run(["run", recipe], folder, 300)
        assert ended.code == 0, ended.err
    return folder


def copy_of(workspace: Path, folder: Path) -> Path:
    """Copy a workspace; its files are hard links, so damages must replace them, not write into them."""
    shutil.copytree(workspace, folder, copy_function=_link, symlinks=True)
    return folder


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
