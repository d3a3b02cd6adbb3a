"""`cpt continue --optimizer carried`: the optimizer's state of the checkpoint goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_chain

from cpt.recipe.authoring import write_continuation
from cpt.recipe.load import load
from cpt.stages.pretrain.config import PretrainConfig
from cpt.training.schedules.phases import WARMUP

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


@pytest.mark.parametrize(
    ("schedule", "written"),
    [
        (
            "{kind: infinite, peak: 2e-3, constant: 1e-3, floor: 1e-4, warmup: 0.1}",
            {"kind": "infinite", "constant": 1e-3, "floor": 1e-4, "continues": True},
        ),
        ("{kind: wsd, peak: 1e-3}", {"kind": "wsd", "peak": 1e-3}),
    ],
)
def test_from_before_an_anneal_it_goes_on_by_the_same_schedule(
    schedule: str, written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    text = (tmp_path / "whole.yaml").read_text()
    (tmp_path / "whole.yaml").write_text(text.replace("{kind: constant, peak: 3e-3, warmup: 0}", schedule))
    more: dict[str, Any] = {"tokens": 400, "stage": None, "name": "continued"}
    write_continuation(load(Path("whole.yaml")), Path("before.yaml"), checkpoint="pre-anneal", **more)
    config = load(Path("before.yaml")).steps[-1].config
    assert isinstance(config, PretrainConfig)
    assert config.schedule.model_dump(include=set(written)) == written
    carried = more | {"name": "carried", "carried": True}
    write_continuation(load(Path("whole.yaml")), Path("carried.yaml"), checkpoint="pre-anneal", **carried)
    config = load(Path("carried.yaml")).steps[-1].config
    assert isinstance(config, PretrainConfig)
    assert config.schedule.phases(100)[0].name != WARMUP
    write_continuation(load(Path("whole.yaml")), Path("last.yaml"), checkpoint="last", **more)
    config = load(Path("last.yaml")).steps[-1].config
    assert isinstance(config, PretrainConfig)
    assert config.schedule == PretrainConfig().schedule


def test_plan_and_run_warn_of_a_start_at_another_rate(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    text = (tmp_path / "whole.yaml").read_text()
    (tmp_path / "whole.yaml").write_text(
        text
        + "  - pretrain: {name: again, from: pretrain, tokens: 200, batch_sequences: 1, precision: fp32, "
        + "schedule: {kind: infinite, continues: true, constant: 1e-3, floor: 1e-4, anneal_share: 0}, "
        + "monitor: {every: 100, tokens: 100, samples: null, early_end: null, weights: null}}\n"
    )
    says = "`continues` begins at a rate of 0.001, but pretrain ends at 0.003: set constant: 0.003"
    for command in ("plan", "run"):
        shown = called(command, "whole.yaml")
        assert shown.code == 0, shown.err
        assert says in " ".join((shown.out + shown.err).split())
