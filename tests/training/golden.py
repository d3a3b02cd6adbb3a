"""Losses of twenty steps of the tiny model, to the last digit, as recorded on each type of machine.

    python tests/training/golden.py        records this type of machine's

A loss that differs means that the same recipe no longer gives the same model: by mistake, or on purpose, and
then the losses are recorded again.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from tiny import write_tiny_model
from tiny_runs import SETTINGS, run

from cpt.training.features.checkpoints import Checkpoints

RECORDED = Path(__file__).with_name("golden.json")
COMMAND = "python tests/training/golden.py"
GOLDEN = SETTINGS.with_changes(steps=20, checkpoint=Checkpoints(every=100))


def machine_type() -> str:
    """What decides the last digit: the processor's maker and instructions, and the version of PyTorch."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {_maker()} {capability}, torch {torch.__version__}"


def golden_losses(model: Path, work: Path) -> list[str]:
    """The losses as exact hexadecimal numbers; with one thread, as the order of sums depends on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(model, work, GOLDEN)
    finally:
        torch.set_num_threads(threads)
    lines = (work / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["loss_nats"].hex() for line in lines]


def recorded() -> dict[str, list[str]]:
    """Losses by type of machine."""
    found: dict[str, list[str]] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return found


def _maker() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "unknown")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        losses = golden_losses(write_tiny_model(Path(folder) / "model"), Path(folder) / "work")
    RECORDED.write_text(json.dumps(recorded() | {machine_type(): losses}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
