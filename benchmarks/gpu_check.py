"""Check cpt on one GPU within ten minutes, and print one table: speed beside others, memory, resuming.

    make gpu-check                                              # on the machine's first GPU
    python benchmarks/gpu_check.py --tiny --device cpu          # every line of it, on a processor

A Llama of the shape of Llama 3.2 1B with random weights trains on documents of 4,096 tokens, four to a micro
batch. MFU is tokens/s x (6 x parameters + 12 x layers x width x length) / peak, as PaLM and most others count
it (arXiv 2204.02311, appendix B). Every part runs in a process of its own: one that fails, or finds no time,
leaves a line that says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import record
import training
from training import CONTENDERS, Job, shapes

SECONDS = 600
"""Longest duration of all parts."""

MOST = 180
"""Longest duration of one part."""


@dataclass(frozen=True)
class Part:
    """A line of the table.

    Attributes:
        name: First column.
        script: Contender that it runs.
        changes: Fields of the job in which it differs.
        reads: Function from the contender's result and job to the line.
        skipped: Reason why it does not run; empty if it does.
    """

    name: str
    script: str
    changes: dict[str, Any]
    reads: Callable[[dict[str, Any], Job], dict[str, Any]]
    skipped: str = ""


def speed(result: dict[str, Any], job: Job) -> dict[str, Any]:
    """Tokens per second of the median step, their share of the peak, and the most memory."""
    sizes = shapes.SHAPES[job.model]
    rate = result["tokens_per_step"] / statistics.median(result["seconds"][2:])
    per_token = 6 * shapes.parameters(job.model) + 12 * sizes["layers"] * sizes["width"] * job.length
    peak = shapes.peak_flops(result["gpu"] or "") or result["product_flops"]
    return {
        "tokens/s": rate,
        "MFU": rate * per_token / peak,
        "peak GB": result.get("peak_gpu_bytes", result["peak_bytes"]) / 1e9,
    }


def memory(result: dict[str, Any], job: Job) -> dict[str, Any]:
    """The most memory that layers as they are took, beside what `cpt estimate` predicts."""
    measured, estimated = result["measured"], result["estimated"]
    return {
        "peak GB": measured / 1e9,
        "note": f"estimate {estimated / 1e9:.2f} GB, {estimated / measured:.0%}",
    }


def resumed(result: dict[str, Any], job: Job) -> dict[str, Any]:
    """Say if a run that was interrupted ended with the same weights."""
    differing = result["differing"]
    return {"note": "the same weights to the bit" if not differing else f"{differing} tensors differ"}


def parts(tiny: bool) -> list[Part]:
    """All lines of the table."""
    from cpt.training.float8 import float8_obstacle

    titan = "it is not installed"
    if importlib.util.find_spec("torchtitan"):
        titan = "its settings differ between versions; run its own 1B configuration beside this"
    return [
        Part("compile: auto", "cpt_loop.py", {}, speed),
        Part("compile: false", "cpt_loop.py", {"compile": False}, speed),
        Part("precision: fp8", "cpt_loop.py", {"precision": "fp8"}, speed, float8_obstacle() or ""),
        Part("FSDP2, one device", "one_shard.py", {}, speed),
        Part("Trainer", "hf_trainer.py", {}, speed),
        Part("torchtitan", "", {}, speed, titan),
        Part("memory, as estimated", "memory.py", {"compile": False, "steps": 2}, memory),
        Part("resumed, deterministic", "resumed.py", {"model": "tiny" if tiny else "135m"}, resumed),
    ]


def lines(tiny: bool, until: float) -> Iterator[dict[str, Any]]:
    """Run the parts one after the other; yields a line of the table for each."""
    with tempfile.TemporaryDirectory() as name:
        job = job_of(tiny, Path(name))
        for part in parts(tiny):
            left = until - time.monotonic()
            if part.skipped or left < 1:
                yield {"part": part.name, "note": f"skipped: {part.skipped or 'no time is left'}"}
                continue
            print(f"{part.name} …", file=sys.stderr, flush=True)
            yield {"part": part.name} | outcome(part, replace(job, **part.changes), min(left, MOST))


def job_of(tiny: bool, folder: Path) -> Job:
    """Return the job of all parts, as far as they do not change it."""
    shape, length, micro, accumulate, steps = ("tiny", 128, 1, 2, 4) if tiny else ("1b", 4096, 4, 2, 10)
    count = steps * micro * accumulate
    pieces = training.random_pieces(shapes.SHAPES[shape]["rows"])
    training.write_data(training.full_rows(pieces, length, count), folder, None)
    return Job(
        model=shape,
        data=str(folder),
        steps=steps,
        length=length,
        micro_batch=micro,
        accumulate=accumulate,
        checkpoint_every=0,
        compile="auto",
        gradient_checkpointing=False,
        profile=False,
    )


def outcome(part: Part, job: Job, seconds: float) -> dict[str, Any]:
    """The line of a part, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        told, heard = Path(folder, "job.json"), Path(folder, "result.json")
        told.write_text(json.dumps(asdict(job)))
        command = [sys.executable, CONTENDERS / part.script, told, heard]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"note": f"not done within {seconds:.0f} s"}
        if done.returncode or not heard.exists():
            words = done.stderr.strip().splitlines() or ["no message"]
            return {"note": f"failed: {words[-1][:200]}"}
        return part.reads(json.loads(heard.read_text()), job)


def table(found: list[dict[str, Any]]) -> str:
    """The lines as a table in Markdown."""
    forms = {"tokens/s": "{:,.0f}", "MFU": "{:.1%}", "peak GB": "{:.2f}", "note": "{}"}
    rows = [
        f"| {line['part']} | "
        + " | ".join(form.format(line[key]) if key in line else "" for key, form in forms.items())
        + " |"
        for line in found
    ]
    return "\n".join([f"| | {' | '.join(forms)} |", "|---" * (1 + len(forms)) + "|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few tokens")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu-check needs an NVIDIA GPU, and PyTorch finds none (cpt doctor says more)")
    if options.device == "cpu" and torch.cuda.is_available():
        raise SystemExit("there is a GPU, and it would be used: hide it with CUDA_VISIBLE_DEVICES=")
    began = time.monotonic()
    found = list(lines(options.tiny, began + options.seconds))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "a processor"
    print(f"{gpu}, PyTorch {torch.__version__}, {time.monotonic() - began:.0f} s")
    print(table(found))
    if not options.tiny:
        print(record.write("gpu_check", {"gpu": gpu, "lines": found}))


if __name__ == "__main__":
    main()
