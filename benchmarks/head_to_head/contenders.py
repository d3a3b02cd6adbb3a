"""Run a contender in a process of its own; return how long it took and the models that it wrote."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decisions.arms import RESULTS, Failed, step_seconds
from decisions.sweeps import stopped_together

from head_to_head.texts import Texts

SCRIPTS = Path(__file__).parents[1] / "contenders"
RECIPE = Path(__file__).parent / "ours.yaml"
TRAINED = "pretrain"
OURS = "cpt"


class Kind(NamedTuple):
    """A peer: its script in `benchmarks/contenders`, and what it trains."""

    script: str
    trainable: str


PEERS = {
    "LLaMA-Factory full": Kind("llama_factory_pretrain.py", "full"),
    "LLaMA-Factory LoRA": Kind("llama_factory_pretrain.py", "lora"),
    "Trainer full": Kind("trainer_pretrain.py", "full"),
}


class Arm(NamedTuple):
    """A contender at one peak of the learning rate."""

    kind: str
    rate: float

    @property
    def label(self) -> str:
        return f"{self.kind} {self.rate:g}"

    @property
    def slug(self) -> str:
        return self.label.lower().replace(" ", "-")


class Ran(NamedTuple):
    """A run that has ended.

    Attributes:
        seconds: Seconds of the run; of ours with one merge, the one that took longest.
        steps: Seconds of each step.
        points: By name: the folder of a model or an adapter, and the seconds until it was written.
    """

    seconds: float
    steps: list[float]
    points: dict[str, tuple[Path, float]]


def arms_of(options: argparse.Namespace) -> list[Arm]:
    """Return the contenders in their order."""
    kinds = {
        "LLaMA-Factory full": options.rates if options.llama_factory_python else [],
        "LLaMA-Factory LoRA": options.lora_rates if options.llama_factory_python else [],
        "Trainer full": options.trainer_rates,
        OURS: options.peaks,
    }
    return [Arm(kind, rate) for kind, rates in kinds.items() for rate in rates]


def run(
    options: argparse.Namespace, base: Path, texts: Texts, arm: Arm, seed: int, steps: int, folder: Path
) -> Ran:
    """Run a contender for so many steps in a new folder.

    Caches are in the folder, too: no run profits from what an earlier one has prepared.

    Raises:
        Failed: The contender failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{time.strftime('%H:%M:%S')} {arm.label}, seed {seed}: {steps} steps", file=sys.stderr, flush=True)
    contender = _ours if arm.kind == OURS else _peer
    return contender(options, base, texts, arm, seed, steps, folder)


def _peer(
    options: argparse.Namespace, base: Path, texts: Texts, arm: Arm, seed: int, steps: int, folder: Path
) -> Ran:
    kind = PEERS[arm.kind]
    job = {
        "model": str(base),
        "text": str(texts.train),
        "output": str(folder / "model"),
        "steps": steps,
        "length": options.length,
        "rows": options.rows,
        "at_once": options.at_once,
        "rate": arm.rate,
        "seed": seed,
        "bf16": options.bf16,
        "processes": options.threads,
        "trainable": kind.trainable,
    }
    told, heard = folder / "job.json", folder / "result.json"
    told.write_text(json.dumps(job))
    python = options.llama_factory_python if "llama" in kind.script else sys.executable
    seconds, code = _timed(options, [python, SCRIPTS / kind.script, told, heard], folder)
    if code or not heard.exists():
        raise Failed(f"{arm.label} failed; what it said is in {folder / 'log.txt'}")
    return Ran(seconds, json.loads(heard.read_text())["seconds"], {"": (folder / "model", seconds)})


def _ours(
    options: argparse.Namespace, base: Path, texts: Texts, arm: Arm, seed: int, steps: int, folder: Path
) -> Ran:
    words = overrides(options, base, texts, arm.rate, seed, steps)
    command = [sys.executable, "-m", "cpt", "run", options.recipe, *words, "--runs", folder]
    seconds, code = _timed(options, command, folder)
    if code not in RESULTS:
        raise Failed(f"{arm.label} failed; what it said is in {folder / 'log.txt'}")
    from cpt.recipe.journal import find_run

    found = find_run(folder, OURS)
    models = {
        name: record.path("model")
        for name, record in found.finished().items()
        if record.stage in (TRAINED, "merge")
    }
    spent = {name: found.stages[name]["seconds"] for name in models if name != TRAINED}
    before = seconds - sum(spent.values())
    points = {name: (model, before + spent.get(name, 0.0)) for name, model in models.items()}
    return Ran(max(each for _, each in points.values()), step_seconds(found.folder), points)


def overrides(
    options: argparse.Namespace, base: Path, texts: Texts, rate: float, seed: int, steps: int
) -> list[str]:
    """Return the settings of our recipe for one run."""
    replay = []
    if options.replay:
        replay = [
            f"corpus.replay=[{{path: {json.dumps(str(options.replay))}}}]",
            f"pretrain.replay={1 / options.rows}",
        ]
    return [
        f"name={OURS}",
        f"base={base}",
        f"seed={seed}",
        f"corpus.domain.0.path={texts.train}",
        f"corpus.general.0.path={texts.choose}",
        *replay,
        f"corpus.sequence_length={options.length}",
        f"corpus.start_token={json.dumps(options.start_token)}",
        f"corpus.end_token={json.dumps(options.start_token)}",
        f"corpus.workers={options.threads}",
        f"pretrain.tokens={steps * options.rows * options.length}",
        f"pretrain.batch_sequences={options.rows}",
        f"pretrain.schedule.peak={rate}",
        f"pretrain.schedule.floor={rate / 10}",
        *options.override,
    ]


def _timed(options: argparse.Namespace, command: Sequence[Any], folder: Path) -> tuple[float, int]:
    """Run a command; return its seconds and its exit code. What it says goes to a file."""
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=_environment(options, folder)
        )
        with stopped_together(process):
            code = process.wait()
    return time.perf_counter() - began, code


def _environment(options: argparse.Namespace, folder: Path) -> Mapping[str, str]:
    own = {
        "OMP_NUM_THREADS": str(options.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "CPT_CACHE": str(folder / "cache"),
    }
    return os.environ | own
