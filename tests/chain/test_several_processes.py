"""The command on two processes: launched by cpt and by torchrun, killed, restarted, and continued."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dying import die_as_told
from faults.forking import run, run_on_two
from safetensors.torch import load_file
from tiny import varied_texts, write_jsonl, write_tiny_model

PATIENCE = 280
"""Seconds after which a command hangs."""
RECIPE = """\
name: tiny
base: model
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      heldout: 0.2
      sequence_length: 48
  - pretrain:
      tokens: 1500
      batch_sequences: 3
      epochs: 3
      schedule: {peak: 1e-2, floor: 1e-3}
      checkpoint: {every: 3}
      monitor: {every: 5, window: 64}
"""
DYING = str(Path(__file__).with_name("dying.py"))
ROOT = Path(__file__).parents[2]


def start(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with some words in a folder."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ
        | {"CPT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def weights(folder: Path) -> bytes:
    (path,) = (folder / "runs" / "tiny").glob("pretrain-*/model/model.safetensors")
    return path.read_bytes()


def log(folder: Path) -> list[int]:
    (path,) = (folder / "runs" / "tiny").glob("pretrain-*/training/steps.jsonl")
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and a finished corpus."""
    folder = tmp_path_factory.mktemp("several") / "corpus"
    folder.mkdir()
    write_tiny_model(folder / "model")
    write_jsonl(folder / "domain.jsonl", varied_texts(120))
    (folder / "recipe.yaml").write_text(RECIPE)
    done = run(["run", "recipe.yaml", "--until", "corpus"], folder, PATIENCE)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def whole(corpus: Path) -> Path:
    """The same after an undisturbed run on two processes."""
    folder = shutil.copytree(corpus, corpus.with_name("whole"))
    done = start(folder, "-m", "cpt", "run", "recipe.yaml", "--json", "--", "--num_processes", "2")
    assert done.returncode == 0, done.stderr
    assert [stage["action"] for stage in json.loads(done.stdout)["stages"]] == ["cached", "run"]
    assert done.stderr.count("pretrain: finished") == 1
    return folder


def test_killed_restarted_and_run_again_equals_undisturbed(corpus: Path, whole: Path) -> None:
    """Process 1 dies at step 5, torchrun restarts both, process 0 dies at step 8. Run again, process 1 is
    told to end in step 7, and both are started once more.
    """
    folder = shutil.copytree(corpus, corpus.with_name("killed"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max_restarts", "1"]
    killed = start(folder, *torchrun, DYING, "run", "recipe.yaml", DIE="step", STEP="5 8")
    assert killed.returncode != 0
    assert "pretrain: continues after step 3" in killed.stderr
    assert not list((folder / "runs" / "tiny").glob("pretrain-*/artifact.json"))
    told = {"DIE": "terminate", "STEP": "7 99"}
    first, second = run_on_two(["run", "recipe.yaml"], folder, PATIENCE, told, die_as_told)
    assert first.code == 143, first.err
    assert second.code not in (0, None)
    assert "continues after step 6" in first.err
    assert "SIGTERM: saved after step 7, and stopped" in first.err
    again, _ = run_on_two(["run", "recipe.yaml"], folder, PATIENCE)
    assert again.code == 0, again.err
    assert "continues after step 7" in again.err
    assert weights(folder) == weights(whole)
    assert log(folder) == log(whole) == list(range(1, len(log(whole)) + 1))


def test_a_mistake_that_the_stage_finds_is_told_once(corpus: Path) -> None:
    folder = shutil.copytree(corpus, corpus.with_name("mistaken"))
    ended = run_on_two(["run", "recipe.yaml", "pretrain.tokens=900_000"], folder, PATIENCE)
    assert ended[0].code == 2
    assert ended[1].code not in (0, None)  # the store in which it reads the code ends with the first
    text = "".join(each.err for each in ended)
    assert text.count("the domain text lasts for") == 1
    assert "Traceback" not in text


def test_sharded_weights_give_what_one_process_gives(corpus: Path) -> None:
    """With everything for which a stage reads the model outside of training, and a milestone."""
    changes = [
        "pretrain.precision=fp32",
        "pretrain.monitor.drift.tokens=60",
        "pretrain.checkpoint.keep_every=6",
    ]
    alone, sharded = (shutil.copytree(corpus, corpus.with_name(name)) for name in ("alone", "sharded"))
    done = run(["run", "recipe.yaml", *changes], alone, PATIENCE)
    assert done.code == 0, done.err
    options = ["--cpu", "--num_processes", "2", "--use_fsdp", "--fsdp_version", "2"]
    launched = start(sharded, "-m", "cpt", "run", "recipe.yaml", *changes, "--", *options)
    assert launched.returncode == 0, launched.stderr
    expected, found = (next((each / "runs" / "tiny").glob("pretrain-*")) for each in (alone, sharded))
    for folder in ("model", "training/checkpoints/step-000000006"):
        assert {f.name for f in (found / folder).iterdir()} == {f.name for f in (expected / folder).iterdir()}
        assert (found / folder / "config.json").read_bytes() == (
            expected / folder / "config.json"
        ).read_bytes()
        tensors = load_file(found / folder / "model.safetensors")
        for name, tensor in load_file(expected / folder / "model.safetensors").items():
            torch.testing.assert_close(tensors[name], tensor, atol=2e-4, rtol=1e-3)
    samples = [json.loads((each / "training" / "samples.json").read_text()) for each in (expected, found)]
    assert samples[0] == samples[1]
    assert samples[0]
    readings = [
        {
            (row["probe"], row["step"]): row["value"]
            for row in map(json.loads, (each / "training" / "probes.jsonl").read_text().splitlines())
        }
        for each in (expected, found)
    ]
    assert readings[1] == pytest.approx(readings[0], rel=1e-3, abs=1e-5)
    assert any(probe == "drift" for probe, _ in readings[0])
