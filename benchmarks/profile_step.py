"""Where the time of a training step goes, by kind of operation.

python benchmarks/profile_step.py --length 1024 --micro-batch 1 --accumulate 4
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from typing import Any

import record
import torch
from throughput import MODEL, our_seconds, packed_sequences
from torch.profiler import ProfilerActivity, profile

from cpt.packed.model import load_model
from cpt.references import resolve_model

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention": ("aten::bmm", "aten::_softmax", "scaled_dot_product", "aten::index_select", "index_add"),
    "optimizer": ("adamw",),
    "casts and copies": ("aten::copy_", "aten::fill_"),
}


def shares(events: Any) -> dict[str, float]:
    """Share of the processor's own time by kind of operation."""
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        kind = next(
            (k for k, names in KINDS.items() if any(name in event.key for name in names)), "elementwise"
        )
        seconds[kind] += event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: seconds[kind] / total for kind in sorted(seconds, key=lambda kind: -seconds[kind])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=4)
    options = parser.parse_args()
    options.steps, options.compile = 2, False
    folder = resolve_model(MODEL)
    batch = options.micro_batch * options.accumulate
    sequences = packed_sequences(folder, options.length, batch * options.steps)
    model = load_model(folder)
    our_seconds(model, sequences, options)  # the first steps only warm up
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        our_seconds(model, sequences, options)
    left = torch.randn(2048, 1536, dtype=torch.bfloat16)
    figures = {
        "setting": f"{options.micro_batch}x{options.length}x{options.accumulate}, bf16",
        "shares": shares(profiled.key_averages()),
        "bfloat16_product_gflops": _product_rate(left),
    }
    print(figures, record.write("profile_step", figures))


def _product_rate(left: torch.Tensor) -> float:
    """GFLOP/s of a bfloat16 product of the size of a feed-forward block, the best of many."""
    right = torch.randn(left.shape[1], 576, dtype=left.dtype)
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * left.numel() * right.shape[1] / best / 1e9


if __name__ == "__main__":
    main()
