"""`cpt continue --optimizer carried`: the optimizer's state of the checkpoint goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_chain

RECIPE = """\
name: whole
base: model
stages:
  - corpus: {domain: [{path: domain.jsonl}], heldout: 0.2, sequence_length: 48}
  - pretrain:
      tokens: 400
      batch_sequences: 1
      precision: fp32
      schedule: {kind: constant, peak: 3e-3, warmup: 0}
      monitor: {every: 100, tokens: 100, samples: null, early_end: null, weights: null}
      checkpoint: {keep_every: 4KEPT}
"""
CARRIED = (
    "--checkpoint",
    "4",
    "--optimizer",
    "carried",
    "continued.schedule={kind: constant, peak: 3e-3, warmup: 0}",
)


def write(folder: Path, kept: str = ", keep_optimizer: true") -> None:
    write_chain(folder)
    (folder / "whole.yaml").write_text(RECIPE.replace("KEPT", kept))


def weights(run: str, stage: str) -> dict[str, torch.Tensor]:
    (folder,) = Path("runs", run).glob(f"{stage}-*")
    return load_file(folder / "model/model.safetensors")


def test_it_ends_as_a_training_that_was_not_divided(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert called("run", "whole.yaml").code == 0
    (steps,) = Path("runs/whole").glob("pretrain-*/training/steps.jsonl")
    rows = [json.loads(line) for line in steps.read_text().splitlines()]
    left = rows[-1]["tokens"] - rows[3]["tokens"]
    assert len(rows) > 6
    done = called("continue", "whole.yaml", "--tokens", left, *CARRIED)
    assert done.code == 0, done.err
    fresh = [word for word in CARRIED if word not in ("--optimizer", "carried")]
    done = called(
        "continue",
        "whole.yaml",
        "--tokens",
        left,
        "--name",
        "fresh",
        "--out",
        "fresh.yaml",
        *fresh[:2],
        fresh[2].replace("continued", "fresh"),
    )
    assert done.code == 0, done.err
    whole = weights("whole", "pretrain")
    assert all(torch.equal(weights("whole", "continued")[name], weight) for name, weight in whole.items())
    assert not all(torch.equal(weights("whole", "fresh")[name], weight) for name, weight in whole.items())


@pytest.mark.parametrize(
    ("kept", "words", "says"),
    [
        ("", CARRIED, "pretrain keeps no optimizer state"),
        (", keep_optimizer: true", ("--optimizer", "carried"), "the state is kept with milestones"),
        (", keep_optimizer: true", (*CARRIED, "continued.optimizer.kind=muon"), "another `optimizer`"),
        (", keep_optimizer: true", (*CARRIED, "continued.trainable={kind: lora}"), "another `trainable`"),
    ],
)
def test_what_cannot_go_on_is_said_before_anything_runs(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, kept)
    done = called("continue", "whole.yaml", "--tokens", "100", *words)
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert not Path("runs").exists()
    assert not Path("whole-continued.yaml").exists()
