"""A recipe on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl


@pytest.fixture
def recipe_file(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`recipe.yaml` in the current folder: a corpus, new tokens, training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "texts.jsonl", varied_texts(60))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""\
name: tiny
base: {tiny_model}
stages:
  - corpus:
      domain: [{{path: texts.jsonl}}]
      heldout: 0.1
      heldout_min: {{documents: 1, bytes: 1}}
      sequence_length: 64
  - vocabulary: {{extend: {{tokens: 30}}}}
  - pretrain: {{tokens: 1000, batch_sequences: 4, monitor: {{tokens: 500}}}}
  - report
"""
    )
    return path
