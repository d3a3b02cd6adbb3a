"""`cpt sweep --skills` and `cpt law skills`, over real stages and a tiny model: from a recipe to a graph."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import clinical_texts, varied_texts, write_jsonl

RECIPE = """\
name: parts
base: model
stages:
  - corpus:
      domain: [{path: notes.jsonl, part: notes}, {path: papers.jsonl, part: papers}]
      heldout: 0.2
      sequence_length: 48
  - pretrain:
      tokens: 400
      batch_sequences: 4
      mixture: {temperature: 1}
      monitor: {every: 3, window: 64, samples: null, weights: null}
      skill_it: {every: 2, graph: skills.json}
"""


@pytest.fixture
def workspace(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    write_jsonl(tmp_path / "notes.jsonl", clinical_texts())
    write_jsonl(tmp_path / "papers.jsonl", varied_texts(40, "paper "))
    (tmp_path / "parts.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return tmp_path


def test_from_a_recipe_to_the_graph_that_it_uses(workspace: Path, called: Any) -> None:
    assert called("validate", "parts.yaml").code == 2, "its graph is not there yet"
    done = called("sweep", "parts.yaml", "--skills", "pretrain", "--json")
    assert done.code == 0, done.err
    assert [row["values"] for row in done.json["configurations"]] == [
        {"pretrain.mixture": {"weights": {"notes": 1, "papers": 0}}},
        {"pretrain.mixture": {"weights": {"notes": 0, "papers": 1}}},
    ]
    learned = called("law", "skills", "parts-skills", "--json")
    assert learned.code == 0, learned.err
    graph = json.loads((workspace / "skills.json").read_text())
    assert {key: learned.json[key] for key in graph} == graph
    assert graph["skills"] == ["notes", "papers"]
    assert graph["runs"] == ["parts-skills-p01-s17", "parts-skills-p02-s17"]
    assert graph["falls"]["papers"]["papers"]["value"] > 0
    shown = called("law", "skills", "parts-skills", "--out", "again.json")
    assert "Graph of 2 parts: again.json" in shown.out
    planned = called("plan", "parts.yaml")
    assert planned.code == 0, planned.err
    assert "Skill-It" in planned.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--skills", "corpus"], "the recipe has no pretrain stage `corpus`"),
        (["--skills", "pretrain", "--vary", "pretrain.replay=0,0.1"], "goes without --vary"),
        (["--skills", "pretrain", "--method", "tpe"], "goes without --vary"),
    ],
)
def test_mistakes(workspace: Path, called: Any, words: list[str], message: str) -> None:
    done = called("sweep", "parts.yaml", *words, "pretrain.skill_it=null")
    assert done.code == 2
    assert message in done.err
    assert called("law", "skills", "none").code == 2
    assert "no folder" in called("law", "skills", "none", "--out", "gone/x.json").err
