"""Bytes that one process holds of Llama 8B and 70B sharded over 8, 64 and 512, against `cpt estimate`.

The training code runs in one process on tensors without content (FakeTensorMode), connected to processes that
do not exist (torch's fake process group): `fully_shard` on the meta device, shards that get memory and are
read, AdamW's state, then forward and backward pass of one row of 4,096 tokens with gradient checkpointing, in
bfloat16, a probe of such a row, the copy of a checkpoint, and its way back. The size of every storage is
counted when an operation makes it, when FSDP2 resizes it, and when it is freed. Index tensors, the process
itself and CUDA's context are not counted.

shards, step, probe and resume are peaks on the device; rows (of the file, while it is read) and checkpoint
(the copy that a thread writes) are in main memory. The copy stands for the files when the run goes on.

    python benchmarks/sharded_scale.py
    python benchmarks/sharded_scale.py --models tiny --processes 2 8
    python benchmarks/sharded_scale.py --models 8B --processes 8 64 --micro-batches 4 --gradient-sync last
"""

from __future__ import annotations

import argparse
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import record
import torch
from torch import distributed
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.weak import WeakIdKeyDictionary

from cpt.estimate.allocations import Recorder, Timeline
from cpt.estimate.devices import GPUS
from cpt.estimate.job import Job
from cpt.estimate.simulate import kernels_of, simulate
from cpt.estimate.simulated_model import build
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.unloaded_model import set_initial_rows
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import OptimizerState, Stateful, WeightState
from cpt.training.distributed import sharding
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.settings import Settings, TrainingConfig
from cpt.training.trainable import All, Setup
from cpt.training.trainable.parameters import TrainableParameters

SHAPES: dict[str, dict[str, int]] = {
    "8B": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32},
    "70B": {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80},
    "tiny": {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2},
}
TOKENS = 4096


class Live(Recorder):
    """Counts the bytes of all storages of fake tensors that are alive."""

    def __init__(self, words: torch.Size) -> None:
        super().__init__(Timeline(), words, on_gpu=True)
        self.pauses = False
        self.now = self.peak = 0
        self._sizes: Any = WeakIdKeyDictionary()

    def enter(self, tensor: torch.Tensor, part: Any = None, size: int | None = None) -> None:
        """Count the storage of a tensor, if it is new."""
        if self.pauses or not isinstance(tensor, FakeTensor):
            return
        storage = tensor.untyped_storage()
        if self._sizes.get(storage) is None:
            held = self._sizes[storage] = [0]
            weakref.finalize(storage, self._change, held, 0)
            self._change(held, storage.nbytes())

    def resized(self, storage: Any, size: int) -> None:
        """Count a storage whose size has changed."""
        held = self._sizes.get(storage)
        if held is not None:
            self._change(held, size)

    def _change(self, held: list[int], size: int) -> None:
        self.now += size - held[0]
        held[0] = size
        self.peak = max(self.peak, self.now)

    @contextmanager
    def phase(self) -> Iterator[dict[str, int]]:
        """Yield a dictionary that gets the peak of the block, and what is held after it."""
        told: dict[str, int] = {}
        self.peak = self.now
        yield told
        told |= {"peak": self.peak, "after": self.now}


@contextmanager
def uncounted_shapes(live: Live) -> Iterator[None]:
    """Do not count tensors by which DTensor learns the shape of a result: they have no memory anywhere."""
    learn = ShardingPropagator._propagate_tensor_meta_non_cached

    def uncounted(*given: Any) -> Any:
        live.pauses = True
        try:
            return learn(*given)
        finally:
            live.pauses = False

    ShardingPropagator._propagate_tensor_meta_non_cached = uncounted  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShardingPropagator._propagate_tensor_meta_non_cached = learn  # type: ignore[method-assign]


@contextmanager
def counted_resizes(live: Live) -> Iterator[None]:
    """Tell `live` of storages that are resized: FSDP2 frees and takes gathered weights so."""
    resize = torch.UntypedStorage.resize_

    def told(storage: Any, size: int) -> Any:
        live.resized(storage, size)
        return resize(storage, size)

    torch.UntypedStorage.resize_ = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]


def architecture(name: str) -> Any:
    """Return the configuration of a Llama."""
    from transformers import LlamaConfig

    heads = SHAPES[name]["hidden_size"] // 128
    more = {"num_attention_heads": heads, "num_key_value_heads": min(8, heads), "vocab_size": 128_256}
    return LlamaConfig(**SHAPES[name], **more, tie_word_embeddings=False)


def run(name: str, count: int, micro_batches: int = 1, gradient_sync: str = "every") -> dict[str, int]:
    """Return the bytes of the phases of one process of many."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    with torch.device("meta"):
        model = build(architecture(name))
    choice = All(kind="all").apply(model, Setup(1))
    live = Live(model.get_input_embeddings().weight.shape)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    module = PackedLanguageModel(model)
    for parameter in model.parameters():
        rest = parameter.shape[1:]
        set_initial_rows(parameter, lambda start, stop, rest=rest: torch.empty(stop - start, *rest))
    for part in model.modules():
        for key, buffer in part._buffers.items():
            part._buffers[key] = None if buffer is None else torch.zeros(buffer.shape)
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=None, reshard_after_forward=True)
    processes: Any = SimpleNamespace(
        sharding=plugin, device=torch.device("cpu"), replicas=1, count=count, is_main=True
    )
    load_shards, told = sharding.load_shards, {}

    def load(*given: Any) -> None:
        with fake, live, live.phase() as phase:
            load_shards(*given)
        told["load"] = phase

    sharding.load_shards = load
    with ExitStack() as stack:
        stack.callback(setattr, sharding, "load_shards", load_shards)
        stack.enter_context(uncounted_shapes(live))
        weights = sharding.ShardedWeights(module, torch.bfloat16, processes)
        stack.enter_context(kernels_of(GPUS["h100"].hardware))
        stack.enter_context(counted_resizes(live))
        for mode in (fake, live):
            stack.enter_context(mode)
        trained = TrainableParameters(choice, weights)
        optimizer = AdamW().build(trained.groups(model))
        for weight in trained.weights.values():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        optimizer.zero_grad()
        checkpoint_layers(model)
        with unset_fake_temporarily():
            batch = pack([np.zeros(TOKENS, dtype=np.int64)])
        with live.phase() as phase:
            for number in range(1, micro_batches + 1):
                sharded: Any = module
                sharded.set_requires_gradient_sync(gradient_sync == "every" or number == micro_batches)
                module(batch).backward()
        told["step"] = phase
        optimizer.zero_grad()
        with live.phase() as phase:
            module.per_token_loss(batch)
            trained.sync_to_model()
        told["probe"] = phase
        stateful: dict[str, Stateful] = {
            "weights": WeightState(trained.checkpoint_tensors, trained.sync_to_model),
            "optimizer": OptimizerState(optimizer, trained.weights),
        }
        before = live.now
        snapshot = Snapshot.of(stateful, 1).copied()
        copied = live.now - before
        with live.phase() as phase:
            snapshot.restore(stateful)
        told["resume"] = phase
    distributed.destroy_process_group()
    return {
        "shards": told["load"]["after"],
        "rows": told["load"]["peak"] - told["load"]["after"],
        "step": told["step"]["peak"],
        "probe": told["probe"]["peak"],
        "checkpoint": copied,
        "resume": told["resume"]["peak"] - copied,
    }


def estimated(name: str, count: int, micro_batches: int = 1, gradient_sync: Any = "every") -> dict[str, int]:
    """Return what `cpt estimate` predicts for the same."""
    settings = Settings(
        TrainingConfig(schedule=Constant(), gradient_checkpointing=True, gradient_sync=gradient_sync),
        steps=100,
        micro_batch=1,
        dtype=torch.bfloat16,
        tokens=100 * TOKENS * count,
    )
    rows = ((TOKENS,),) * count * micro_batches
    job = Job(architecture(name), settings, rows, probe=(TOKENS,), processes=count, sharded=True)
    simulation = simulate(job, GPUS["h100"].hardware)
    peaks = {
        moment: sum(block.bytes for block in simulation.timeline.peak(moment))
        for moment in ("load", "step", "probe")
    }
    return {
        "shards": peaks["load"],
        "rows": simulation.host.models // count,
        "step": peaks["step"],
        "probe": peaks["probe"],
        "checkpoint": simulation.host.copies // count,
    }


def main() -> None:
    """Count, print and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["8B", "70B"], choices=SHAPES)
    parser.add_argument("--processes", nargs="+", type=int, default=[8, 64, 512])
    parser.add_argument("--micro-batches", type=int, default=1)
    parser.add_argument("--gradient-sync", default="every", choices=["every", "last"])
    asked = parser.parse_args()
    kind = (asked.micro_batches, asked.gradient_sync)
    figures: dict[str, Any] = {}
    for name in asked.models:
        for count in asked.processes:
            began = time.perf_counter()
            counted = run(name, count, *kind)
            figures[f"{name} on {count}"] = {"counted": counted, "estimated": estimated(name, count, *kind)}
            print(
                name, count, figures[f"{name} on {count}"], f"{time.perf_counter() - began:.0f} s", flush=True
            )
    if "tiny" not in asked.models and kind == (1, "every"):
        record.write("sharded_scale", figures)


if __name__ == "__main__":
    main()
