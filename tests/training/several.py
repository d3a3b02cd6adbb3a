"""Training the tiny model on several processes, connected by gloo: `start(jobs, 2)`."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt.training.trainable import Trainable

if TYPE_CHECKING:
    import torch

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
HSDP = FSDP2 | {
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "2",
}

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["cpt.training.loop", "cpt.models.packed_model", "transformers.models.llama.modeling_llama"]
)


class Started(NamedTuple):
    """A process, and the file with what it says."""

    process: Any
    said: Path


def start(jobs: list[dict[str, Any]], count: int) -> list[Started]:
    """Processes that run some jobs one after the other, forked by a server that has imported everything.

    A job has `model`, `work`, `out` (where the main process writes the weights), and optionally `settings`,
    `rows` (of a global batch), `teacher` (folder of a model; with `alm` documents of text are read),
    `environment`, `stop` (step before whose checkpoint it is interrupted),
    `signal` (step in which the second process receives SIGTERM), `spoilt` (step whose loss is NaN),
    `harmed` (step before which a weight changes), `also` (every process writes `out`), `by_shard` (a
    checkpoint that needs a whole tensor of a sharded one fails), `counted` (it tells how often gradients were
    summed over shards) and `second` (what the second process has otherwise). A job that is refused writes the
    reason.
    A job with `call` ("module:function") is handed to that function instead.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)} if count > 1 else {}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
        said = Path(f"{jobs[0]['out']}-said-{rank}")
        process = _FORKED.Process(target=_all, args=(jobs, place | own, said))
        process.start()
        started.append(Started(process, said))
    return started


def finish(started: list[Started]) -> list[int]:
    """Wait for all; returns their exit codes."""
    try:
        for each in started:
            each.process.join(900)
    finally:
        for each in started:
            each.process.kill()
            each.process.join()
    sys.stderr.writelines(each.said.read_text() for each in started)
    return [each.process.exitcode for each in started]


def run(jobs: list[dict[str, Any]], count: int = 2) -> None:
    """Run jobs to their end."""
    assert finish(start(jobs, count)) == [0] * count


def run_in(folder: Path, model: Path, jobs: Mapping[str, dict[str, Any]], count: int = 2) -> Path:
    """Run jobs by name on some processes, each in the folder `work` of its own name or of the one it gives.

    Returns:
        The folder, with what `weights` and `facts` read.
    """
    run(
        [
            {"model": str(model), "out": str(folder / name)}
            | job
            | {"work": str(folder / "work" / job.get("work", name))}
            for name, job in jobs.items()
        ],
        count,
    )
    return folder


def weights(done: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    """What a job's process ended with."""
    from safetensors.torch import load_file

    return load_file(done / f"{name}-{rank}.safetensors")


def facts(done: Path, name: str, rank: int = 0) -> dict[str, Any]:
    """What a job's process told."""
    data: dict[str, Any] = json.loads((done / f"{name}-{rank}.json").read_text())
    return data


def _do(job: dict[str, Any]) -> None:
    import pytest
    import torch
    from alm_runs import Documents, aligned
    from compiling import emulated_float8, without_kernels
    from gated import Phased, forgetting
    from safetensors.torch import save_file
    from tiny_runs import SETTINGS, Batches, probes_of
    from tiny_training import Said

    from cpt.errors import StageFailed
    from cpt.models.packed_model import load_model
    from cpt.models.unloaded_model import unloaded_model
    from cpt.training.distributed.context import distributed_context
    from cpt.training.loop import train

    class Rows(Batches):
        def batch(self, step: int) -> list[Any]:
            if step + 1 == job.get("harmed"):
                with torch.no_grad():
                    model.get_parameter("model.layers.0.self_attn.q_proj.weight")[0, 0] += 1e-3
            if step + 1 == job.get("signal") and not distributed_context().is_main:
                os.kill(os.getpid(), signal.SIGTERM)
            more = super().batch(step + 1000) if job.get("rows", 4) > 4 else []
            return [*super().batch(step), *more][: job.get("rows", 4)]

    if distributed_context().rank == 1:
        job |= job.get("second", {})
    without_kernels(pytest.MonkeyPatch())
    os.environ |= job.get("environment", {})
    changes = changed(job.get("settings", {}))
    if changes.get("precision") == "fp8":
        emulated_float8(pytest.MonkeyPatch())
    folder = Path(job["model"])
    load = unloaded_model if "ACCELERATE_USE_FSDP" in job.get("environment", {}) else load_model
    model = load(folder)
    settings, progress = SETTINGS.with_changes(**changes), Said(job.get("stop"))
    probes, stream = probes_of(settings, folder), Rows()
    if job.get("gated"):
        probes, stream = forgetting(folder), Phased()
    taught: dict[str, Any] = {}
    if "teacher" in job and job["settings"]["objective"]["kind"] == "alm":
        taught = {"teacher": aligned(folder, Path(job["teacher"]), load)}
        stream = Documents(folder)
    elif "teacher" in job:
        taught = {"teacher": load(Path(job["teacher"]))}
    out = Path(f"{job['out']}-{distributed_context().rank}")
    try:
        with (
            spoilt(job.get("spoilt")),
            by_shard() if job.get("by_shard") else nullcontext(),
            counted_sums() as sums,
        ):
            result = train(model, stream, probes, settings, Path(job["work"]), progress, **taught)
    except (KeyboardInterrupt, StageFailed) as error:
        torch.distributed.destroy_process_group()
        result = None
        out.with_suffix(".txt").write_text(f"{type(error).__name__}: {error}")
    if result and (distributed_context().is_main or job.get("also")):
        readings = [{**reading.as_json(), "seconds": None} for reading in result.readings]
        if load is unloaded_model:
            shutil.copyfile(
                Path(job["work"]) / "model" / "model.safetensors", out.with_suffix(".safetensors")
            )
        else:
            weights = {name: p.detach().contiguous() for name, p in model.named_parameters()}
            save_file(weights, out.with_suffix(".safetensors"))
        told = {"ledger": result.ledger, "readings": readings, "anomalies": result.anomalies}
        told |= {"actions": result.actions, "phases": result.phases, "ended": result.ended}
        told |= {"sums": len(sums)} if job.get("counted") else {}
        out.with_suffix(".json").write_text(json.dumps(told))
    for name in job.get("environment", {}):
        del os.environ[name]


def changed(data: dict[str, Any]) -> dict[str, Any]:
    """Settings from JSON data."""
    import torch
    from pydantic import TypeAdapter

    from cpt.monitor.gates import Gate
    from cpt.training.features.anomalies import Anomalies
    from cpt.training.features.checkpoints import Checkpoints
    from cpt.training.features.l2_sp import L2SPConfig
    from cpt.training.features.weight_averaging import AveragingConfig
    from cpt.training.objectives import Objective
    from cpt.training.optimizers import Optimizer

    kinds: dict[str, Any] = {
        "gates": tuple[Gate, ...],
        "average": AveragingConfig,
        "checkpoint": Checkpoints,
        "anomalies": Anomalies,
        "objective": Objective,
        "optimizer": Optimizer,
        "l2_sp": L2SPConfig,
        "trainable": Trainable,
    }
    return {
        key: TypeAdapter(kinds[key]).validate_python(value)
        if key in kinds
        else (getattr(torch, value) if key == "dtype" else value)
        for key, value in data.items()
    }


@contextmanager
def spoilt(step: int | None) -> Iterator[None]:
    """Let the loss of a step (1 is the first) seem to be NaN."""
    from cpt.training.step import Gradient, Stepper

    gradient, taken = Stepper.gradient, []

    def spoil(self: Stepper, batch: Any) -> Gradient:
        found = gradient(self, batch)
        taken.append(found)
        return dataclasses.replace(found, loss_nats=math.nan) if len(taken) == step else found

    Stepper.gradient = spoil  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stepper.gradient = gradient  # type: ignore[method-assign]


@contextmanager
def counted_sums() -> Iterator[list[int]]:
    """Yield the number of gradients, by call, that FSDP2 sums to leave each process its shards."""
    import pytest
    from torch.distributed.fsdp._fully_shard import _fsdp_param_group

    reduce, sums = _fsdp_param_group.foreach_reduce, []

    def noted(parameters: Any, *args: Any) -> Any:
        sums.append(len(parameters))
        return reduce(parameters, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fsdp_param_group, "foreach_reduce", noted)
        yield sums


@contextmanager
def by_shard() -> Iterator[None]:
    """Let a sharded tensor that is made whole, to be saved or restored, be an error."""
    import pytest
    from torch.distributed.tensor import DTensor

    from cpt.training.checkpoint.stored import StoredTensor
    from cpt.training.features.checkpoints import CheckpointManager

    gather, read, inside = DTensor.full_tensor, StoredTensor.clone, []

    def full_tensor(self: DTensor, **options: Any) -> torch.Tensor:
        assert not inside, "a sharded tensor was gathered"
        return gather(self, **options)

    def clone(self: StoredTensor) -> torch.Tensor:
        # single numbers and the generators' states are whole in every process
        assert not self.ndim or "random" in self.key + self.file, f"all of {self.key} was read"
        return read(self)

    def held(act: Any) -> Any:
        def acted(*args: Any, **named: Any) -> Any:
            inside.append(act)
            try:
                return act(*args, **named)
            finally:
                inside.pop()

        return acted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DTensor, "full_tensor", full_tensor)
        patch.setattr(StoredTensor, "clone", clone)
        for name in ("save", "resume", "remember", "roll_back"):
            patch.setattr(CheckpointManager, name, held(getattr(CheckpointManager, name)))
        yield


def _all(jobs: list[dict[str, Any]], environment: dict[str, str], said: Path) -> None:
    """Run jobs in this process, and write what is said on standard error to a file."""
    import torch

    os.environ |= environment
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: None)
    for each in jobs:
        if "call" in each:
            module, name = each["call"].split(":")
            getattr(importlib.import_module(module), name)(each)
        else:
            _do(each)
