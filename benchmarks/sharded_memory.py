"""Peak memory of each process that loads, checks and writes a sharded model on CPUs (gloo).

A random model is written to a temporary folder. Processes are forked from one that has imported everything;
each does all phases with a tiny model first, which imports the rest. It then takes the highest resident
memory of a phase from the system (VmHWM, set back before each phase), above what it had before. `whole` loads
the model in every process before it is sharded, and gathers it in the main process to write it.

Two models differ in their number of layers alone. What a phase takes more with the deeper one, by each byte
that it is larger, is the share of the model that a process holds: buffers and logits are the same in both.

    python benchmarks/sharded_memory.py
"""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import record

SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_USE_CPU": "true"}
RUNS = {"whole, 2 processes": (2, True), "2 processes": (2, False), "4 processes": (4, False)}
LAYERS = (8, 32)
WEIGHTS = "model.safetensors"
_FORKED = multiprocessing.get_context("fork")


def main() -> None:
    """Measure and record."""
    import cpt.models.packed_model
    import cpt.models.unloaded_model
    import cpt.training.loop  # noqa: F401

    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch) / "tiny"
        folders = [Path(scratch) / f"layers-{count}" for count in LAYERS]
        _in_processes(1, _write_random_model, tiny, 96, 24, 1)
        for folder, layers in zip(folders, LAYERS, strict=True):
            _in_processes(1, _write_random_model, folder, 16_000, 768, layers)
        sizes = [(folder / WEIGHTS).stat().st_size for folder in folders]
        figures = {}
        for name, (count, whole) in RUNS.items():
            peaks = [_peaks(folder, tiny, Path(scratch) / name, count, whole) for folder in folders]
            figures[name] = {
                phase: {
                    "peak_bytes": [found[phase] for found in peaks],
                    "by_byte_of_model": (peaks[1][phase] - peaks[0][phase]) / (sizes[1] - sizes[0]),
                }
                for phase in peaks[0]
            }
            print(name, {phase: round(row["by_byte_of_model"], 2) for phase, row in figures[name].items()})
    print(record.write("sharded_memory", {"layers": LAYERS, "model_bytes": sizes, "runs": figures}))


def _peaks(folder: Path, tiny: Path, out: Path, count: int, whole: bool) -> dict[str, int]:
    """Return each phase's peak, of the process that has the highest."""
    _in_processes(count, _measure, folder, tiny, out, whole)
    if (out / WEIGHTS).read_bytes() != (folder / WEIGHTS).read_bytes():
        raise SystemExit(f"{out.name}: the written weights are not those that were read")
    shutil.rmtree(out)
    found = [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(count)]
    return {phase: max(peaks[phase] for peaks in found) for phase in found[0]}


def _in_processes(count: int, function: Any, *given: Any) -> None:
    """Run a function in forked processes that can connect to each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [_FORKED.Process(target=_as_rank, args=(r, count, port, function, given)) for r in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("a process failed")


def _as_rank(rank: int, count: int, port: int, function: Any, given: tuple[Any, ...]) -> None:
    if count > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()} | SHARDED
    function(*given)


def _write_random_model(folder: Path, words: int, width: int, layers: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": words, "hidden_size": width, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 12, "intermediate_size": width * 8 // 3}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(folder)


def _measure(folder: Path, tiny: Path, out: Path, whole: bool) -> None:
    import torch

    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.distributed.context import distributed_context

    torch.set_num_threads(1)
    processes = ProcessGroup(distributed_context())
    _phases(tiny, Path(f"{out}-tiny"), whole, processes)
    peaks = _phases(folder, out, whole, processes)
    Path(f"{out}-{processes.rank}.json").write_text(json.dumps(peaks))
    processes.close()


def _phases(folder: Path, out: Path, whole: bool, processes: Any) -> dict[str, int]:
    """Load, check and write a model; return the bytes of the shards, and of each phase above the start."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    from cpt.models.packed_model import PackedLanguageModel, load_model
    from cpt.models.unloaded_model import unloaded_model
    from cpt.training.distributed.loading import check_shards
    from cpt.training.distributed.sharding import ShardedWeights, shard
    from cpt.training.distributed.writing import write_model

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _reset_peak()
    before = _memory("VmRSS")
    if whole:
        module = PackedLanguageModel(load_model(folder))
        weights = ShardedWeights(module, torch.float32, processes)
    else:
        module = PackedLanguageModel(unloaded_model(folder))
        shard(module, MixedPrecisionPolicy(cast_forward_inputs=False), processes)
    peaks = {"load": _memory("VmHWM") - before}
    peaks["shard"] = sum(p.to_local().nbytes for p in module.parameters())  # type: ignore[operator]
    _reset_peak()
    check_shards(module, torch.float32, processes)
    peaks["check"] = _memory("VmHWM") - before
    ctypes.CDLL(None).malloc_trim(0)
    _reset_peak()
    peaks["before writing"] = _memory("VmRSS") - before
    if not whole:
        write_model(module.model, None, out, processes)
    elif weights.restore_model(module.model):
        module.model.save_pretrained(out)
    peaks["write"] = _memory("VmHWM") - before
    processes.wait()
    return peaks


def _memory(name: str) -> int:
    """Return a figure of this process's resident memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _reset_peak() -> None:
    """Set the highest resident memory back to the present one (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
