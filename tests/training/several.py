"""Training the tiny model on several processes: `start(jobs, 2)` runs this file twice, connected by gloo."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(jobs: list[dict[str, Any]], count: int) -> list[subprocess.Popen[str]]:
    """Processes that run some jobs one after the other.

    A job has `model`, `work`, `out` (where the main process writes the weights), and optionally `settings`,
    `rows` (of a global batch), `environment`, `stop` (step before whose checkpoint it is interrupted) and
    `also` (every process writes `out`).
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)} if count > 1 else {}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "training")])
    return [
        subprocess.Popen(
            [sys.executable, __file__, json.dumps(jobs)],
            env=os.environ
            | address
            | place
            | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {})
            | {"PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Wait for all; returns their exit codes."""
    try:
        outputs = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    sys.stderr.writelines(outputs)
    return [process.returncode for process in processes]


def run(jobs: list[dict[str, Any]], count: int = 2) -> None:
    """Run jobs to their end."""
    assert finish(start(jobs, count)) == [0] * count


def _do(job: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file
    from test_loop import SETTINGS, Batches, Quiet
    from tiny import SENTENCES

    from cpt.model_folder.tokenizer import load_tokenizer
    from cpt.monitor.bits_per_byte import tokenise_text
    from cpt.packed.model import load_model
    from cpt.training.loop import train
    from cpt.training.world import world

    class Rows(Batches):
        def batch(self, step: int) -> list[Any]:
            return super().batch(step)[: job.get("rows", 4)]

    os.environ |= job.get("environment", {})
    changes = job.get("settings", {})
    if "dtype" in changes:
        changes["dtype"] = getattr(torch, changes["dtype"])
    folder = Path(job["model"])
    model = load_model(folder)
    probes = {"domain": tokenise_text(load_tokenizer(folder), SENTENCES, 64, "<s>")}
    settings, progress = dataclasses.replace(SETTINGS, **changes), Quiet(job.get("stop"))
    try:
        result = train(model, Rows(), probes, settings, Path(job["work"]), progress)
    except KeyboardInterrupt:
        torch.distributed.destroy_process_group()
        result = None
    if result and (world().is_main or job.get("also")):
        readings = [reading.as_json() for reading in result.readings]
        out = Path(f"{job['out']}-{world().rank}")
        weights = {name: p.detach().contiguous() for name, p in model.named_parameters()}
        save_file(weights, out.with_suffix(".safetensors"))
        out.with_suffix(".json").write_text(json.dumps({"ledger": result.ledger, "readings": readings}))
    for name in job.get("environment", {}):
        del os.environ[name]


if __name__ == "__main__":
    for each in json.loads(sys.argv[1]):
        _do(each)
