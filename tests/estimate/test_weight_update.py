"""Memory of the optimizer's step, and of what AdaLoRA allocates ranks by, against real tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import job
from torch import nn

from cpt.estimate.allocations import Part, Recorder, Timeline, by_part
from cpt.estimate.devices import GPUS
from cpt.estimate.simulate import Simulation, simulate
from cpt.estimate.simulated_model import mark_trainable, take_over
from cpt.models.packed_model import load_model
from cpt.training.distributed.shared_work import buffer_bytes
from cpt.training.optimizers import GaLore, Muon, state_bytes
from cpt.training.optimizers.base import SharedMatrixConfig
from cpt.training.trainable import Lora
from cpt.training.trainable.lora import Allocation
from cpt.training.trainable.parameters import TrainableParameters

H100 = GPUS["h100"].hardware
ADALORA = Lora(kind="lora", variant="adalora", rank=2, allocation=Allocation(initial_rank=6))


def parts(simulated: Simulation, moment: str) -> Mapping[Part, int]:
    return by_part(simulated.timeline.peak(moment))


@pytest.mark.parametrize("optimizer", [Muon(), GaLore(rank=4)])
def test_replicas_hold_results_that_they_send_each_other(
    tiny_model: Path, optimizer: SharedMatrixConfig
) -> None:
    alone, two = (
        simulate(job(tiny_model, (20,), (12,), micro_batch=1, optimizer=optimizer, processes=count))
        for count in (1, 2)
    )
    model = load_model(tiny_model)
    shapes = [tuple(p.shape) for n, p in model.named_parameters() if p.ndim > 1 and "embed" not in n]
    works = [optimizer.shared_work(shape) for shape in shapes]
    held = parts(two, "update")["optimizer"] - parts(alone, "update")["optimizer"]
    assert held == buffer_bytes(works, 2)
    assert sum(work.bytes for work in works) <= held < 1.5 * sum(work.bytes for work in works)


def counted(model: nn.Module, trained: TrainableParameters) -> dict[str, int]:
    """Bytes that a run with AdaLoRA holds between steps, from the tensors themselves."""
    allocator = trained._ranks._allocator  # type: ignore[union-attr]
    of_ranks = [*allocator.exp_avg_ipt.values(), *allocator.exp_avg_unc.values()]
    of_ranks += [value for value in allocator.ipt.values() if value is not None]
    of_ranks += [value for name, value in trained.checkpoint_tensors.items() if name.endswith(".kept")]
    held = {
        t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers(), *trained.weights.values())
    }
    return {"weights": sum(held.values()), "ranks": sum(tensor.nbytes for tensor in of_ranks)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adalora_holds_its_first_ranks_and_two_averages(tiny_model: Path, dtype: torch.dtype) -> None:
    run = job(tiny_model, (20, 12), trainable=ADALORA, steps=20, dtype=dtype)
    rehearsed = simulate(run, H100)  # which keeps no frozen float32 weights beside the others
    model = load_model(tiny_model)
    _, trained = take_over(model, mark_trainable(model, run.settings), run.settings)
    for weight in trained.weights.values():
        weight.grad = torch.ones_like(weight)
    optimizer = run.settings.config.optimizer.build(trained.groups(model))
    optimizer.step()
    timeline = Timeline()
    recorder = Recorder(timeline, torch.Size((0, 0)), on_gpu=True)
    gradients = [weight.grad for weight in trained.weights.values() if weight.grad is not None]
    for tensor in (*model.parameters(), *trained.checkpoint_tensors.values(), *gradients):
        recorder.enter(tensor, size=0)
    with recorder, timeline.moment("update"):
        trained.after_step()
    temporary = sum(block.bytes for block in timeline.peak("update"))
    real = counted(model, trained)
    factors = sum(weight.numel() for weight in trained.weights.values())
    singular = sum(w.numel() for name, w in trained.weights.items() if ".lora_E." in name)
    assert real["ranks"] == 4 * (2 * factors + singular)
    assert sum("ranknum" in name for name, _ in model.named_parameters()) == singular // 6
    assert rehearsed.weights.total == sum(p.numel() for p in model.parameters())
    assert parts(rehearsed, "step")["weights"] == real["weights"]
    assert parts(rehearsed, "step")["optimizer"] == real["ranks"] + state_bytes(optimizer)
    found = parts(rehearsed, "update")["optimizer"] - parts(rehearsed, "step")["optimizer"]
    assert found == temporary >= 3 * 4 * factors


def test_sharded_factors_have_whole_averages_and_are_copied_to_be_allocated(tiny_model: Path) -> None:
    common: dict[str, Any] = {"steps": 20, "processes": 2, "sharded": True, "micro_batch": 1}
    plain = Lora(kind="lora", variant="lora", rank=6)
    ranked, fixed = (
        simulate(job(tiny_model, (20,), (12,), trainable=each, **common), H100) for each in (ADALORA, plain)
    )
    factors = ranked.weights.trained
    beside = parts(ranked, "step")["optimizer"] - parts(fixed, "step")["optimizer"]
    singular = factors - fixed.weights.trained
    assert beside == pytest.approx(4 * (2 * factors + singular) + 8 * singular / 2, rel=0.02)
    copies = parts(ranked, "update")["optimizer"] - parts(ranked, "step")["optimizer"]
    assert copies == pytest.approx(4 * 5 * factors, rel=0.02)
