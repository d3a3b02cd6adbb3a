"""cpt's training loop: bfloat16 copies of float32 masters, a fused AdamW, attention within documents."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import job as jobs
import shapes
import torch

from cpt.corpus import PackedSequence
from cpt.models.packed_model import load_model
from cpt.progress import NullProgress
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train
from cpt.training.schedules import Constant
from cpt.training.settings import Settings, TrainingConfig

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "gemm", "nvjet"),
    "attention": (
        "_Products", "aten::bmm", "aten::_softmax", "flash", "aten::index_select", "scaled_dot_product",
    ),
    "optimizer": ("adam",),
    "casts and copies": ("aten::copy_", "aten::fill_", "Memcpy"),
}  # fmt: skip


class Timed:
    """A stream of the given sequences, over and over, that notes when each step asked for its batch."""

    def __init__(self, sequences: list[PackedSequence], size: int) -> None:
        self.sequences, self.size = sequences, size
        self.asked: dict[int, float] = {}

    def batch(self, step: int) -> list[PackedSequence]:
        self.asked[step] = time.perf_counter()
        return self._rows(step)

    def _rows(self, step: int) -> list[PackedSequence]:
        return [self.sequences[(step * self.size + i) % len(self.sequences)] for i in range(self.size)]

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        rows = [row for step in range(steps) for row in self._rows(step)]
        return {"domain": {"sequences": len(rows), "tokens": sum(len(row.tokens) for row in rows)}}


class Steps(NullProgress):
    """Notes when each step was done."""

    def __init__(self) -> None:
        self.done: dict[int, float] = {}

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        if unit == "step":
            _wait()  # the optimizer's part may still be under way
            self.done[done] = time.perf_counter()


def settings(job: jobs.Job) -> Settings:
    """The same training as the other contenders'."""
    config = TrainingConfig(
        schedule=Constant(peak=1e-5, warmup=0),
        checkpoint=Checkpoints(every=job.checkpoint_every or job.steps),
        compile=job.compile,  # type: ignore[arg-type]
        precision=job.precision,  # type: ignore[arg-type]
        gradient_checkpointing=job.gradient_checkpointing,
    )
    return Settings(config, job.steps, job.micro_batch, torch.bfloat16, on_gpu=torch.cuda.is_available())


def run(job: jobs.Job, model: Any) -> tuple[list[float], list[float]]:
    """Seconds of every step, and seconds that each checkpoint kept the next step waiting."""
    sequences = [PackedSequence("domain", tokens, lengths) for tokens, lengths in job.rows()]
    stream, steps = Timed(sequences, job.rows_per_step), Steps()
    with tempfile.TemporaryDirectory() as folder:
        train(model, stream, [], settings(job), Path(folder), steps)
    seconds = [steps.done[step + 1] - stream.asked[step] for step in range(job.steps)]
    every = job.checkpoint_every or job.steps
    blocked = [stream.asked[step] - steps.done[step] for step in range(every, job.steps, every)]
    return seconds, blocked


def shares(events: Any) -> dict[str, float]:
    """Share of the device's, or else the processor's, own time by kind of operation."""
    on_gpu = any(event.self_device_time_total for event in events)
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "elementwise")
        seconds[kind] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: seconds[kind] / total for kind in sorted(seconds, key=lambda kind: -seconds[kind])}


def product_rate() -> float:
    """FLOP/s of a bfloat16 product of the size of a feed-forward block, the best of many."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        _wait()
        began = time.perf_counter()
        left @ right
        _wait()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    job = jobs.read()
    model = shapes.random_model(job.model) if job.model in shapes.SHAPES else load_model(Path(job.model))
    more: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": model.config.num_hidden_layers,
        "width": model.config.hidden_size,
        "product_flops": product_rate(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    if job.profile:
        with torch.profiler.profile() as profiled:
            run(job, model)
        more["shares"] = shares(profiled.key_averages())
    seconds, blocked = run(job, model)
    if torch.cuda.is_available():
        more["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    tokens = sum(len(tokens) for tokens, _ in job.rows()) / job.steps
    jobs.report(seconds, tokens, blocked, **more)


if __name__ == "__main__":
    main()
