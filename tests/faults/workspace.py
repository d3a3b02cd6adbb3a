"""A folder in which everything is right: a tiny model, texts, a recipe, a finished run, results of models."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny import varied_texts, write_jsonl, write_tiny_model

from faults.forking import run

RECIPE = """\
name: tiny
base: model
seed: 3
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      replay: {self_generated: {tokens: 300, length: 24, batch: 8}}
      general: [{path: general.jsonl}]
      heldout: 0.2
      sequence_length: 48
  - vocabulary: {extend: {tokens: 20}}
  - pretrain:
      tokens: 1500
      batch_sequences: 4
      replay: 0.25
      epochs: 3
      schedule: {peak: 1e-2, floor: 1e-3}
      checkpoint: {every: 3}
      monitor: {every: 3, window: 64}
  - merge: {models: [{from: pretrain, weight: 0.9}]}
  - evaluate: {window: 64, tasks: [{name: continuation, continuation_of: domain, items: 8}]}
  - report: {}
"""
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
    """Write the model, a second one of its kind, texts, two recipes and a merge file."""
    folder.mkdir(parents=True)
    write_tiny_model(folder / "model")
    write_tiny_model(folder / "second", seed=1)
    write_jsonl(folder / "domain.jsonl", [f"{text} {text[::-1]}" for text in varied_texts(120)])
    write_jsonl(folder / "general.jsonl", varied_texts(30, "general "))
    (folder / "recipe.yaml").write_text(RECIPE)
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
