"""Work that replicas share: each result is computed once, and everyone has the bits of one process alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import several
import torch
from several import weights
from torch import nn

from cpt.training.distributed import shared_work
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.shared_work import Work, buffer_bytes, computed_once
from cpt.training.optimizers import GaLore, Muon, galore, muon
from cpt.training.optimizers.base import MatrixConfig
from cpt.training.optimizers.groups import Group
from cpt.training.optimizers.matrices import MatrixOptimizer

SHAPES = ((24, 8), (8, 24), (3, 8, 12), (33, 17), (17, 33), (16, 16), (5, 2))
OPTIMIZERS: dict[str, MatrixConfig] = {"muon": Muon(), "galore": GaLore(rank=4, gap=2)}
STEPS = 4


def stepped(config: MatrixConfig, replicas: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Return weights and state after some steps, and how many matrices this process has decomposed."""
    torch.manual_seed(0)
    moved = {f"w{number}": nn.Parameter(torch.randn(shape)) for number, shape in enumerate(SHAPES)}
    optimizer = config.build([Group("matrices", "matrix", moved)])
    assert isinstance(optimizer, MatrixOptimizer)
    optimizer.replicas = replicas
    optimizer.param_groups[0]["lr"] = 0.1
    done = []
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((muon, "orthogonal"), (galore, "leading_directions")):
            act = getattr(module, name)
            patch.setattr(module, name, lambda *given, act=act: (done.append(given), act(*given))[1])
        for _ in range(STEPS):
            for name, weight in moved.items():
                weight.grad = None if name == "w5" else torch.randn_like(weight)
            optimizer.step()
    state = {f"{n}.{k}": v for n, w in moved.items() for k, v in optimizer.state[w].items()}
    return {**{n: w.detach() for n, w in moved.items()}, **state}, len(done)


def share(job: dict[str, Any]) -> None:
    """Step on processes that share the work; write what each has, and what it would have alone."""
    processes = ProcessGroup(distributed_context())
    for name, config in OPTIMIZERS.items():
        for limit in (1, 600, 2**20):
            shared_work.BUFFER_BYTES = limit
            found, count = stepped(config, processes)
            alone, _ = stepped(config, None)
            torch.save((found, alone, count), f"{job['out']}-{name}-{limit}-{processes.rank}")
    processes.close()


@pytest.fixture(scope="module", params=[2, 4])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder with what some processes have moved, and their number."""
    folder, count = tmp_path_factory.mktemp("shared"), request.param
    several.run([{"call": "test_shared_work:share", "out": str(folder / "done")}], count)
    return folder, count


@pytest.mark.parametrize("limit", [1, 600, 2**20])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_process_has_the_bits_of_one_alone_and_each_matrix_is_computed_once(
    shared: tuple[Path, int], name: str, limit: int
) -> None:
    folder, count = shared
    ranks = [torch.load(folder / f"done-{name}-{limit}-{rank}") for rank in range(count)]
    for found, alone, _ in ranks:
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[key], ranks[0][1][key]) for key in found)
        assert all(torch.equal(alone[key], ranks[0][1][key]) for key in found)
    moved = len(SHAPES) - 1  # one has no gradient
    times = STEPS if name == "muon" else STEPS // 2
    assert sum(each for *_, each in ranks) == moved * times
    assert max(each for *_, each in ranks) == -(-moved // count) * times


def test_one_process_computes_in_order() -> None:
    works, asked = [Work(cost, (2,)) for cost in (1, 3, 2)], []

    def compute(number: int) -> torch.Tensor:
        asked.append(number)
        return torch.full((2,), float(number))

    for processes in (None, SimpleNamespace(count=1)):
        found = list(computed_once(works, compute, processes))  # type: ignore[arg-type]
        assert [(number, result.tolist()) for number, result in found] == [(n, [n, n]) for n in range(3)]
    assert asked == [0, 1, 2] * 2


def test_costs_are_balanced_and_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_work, "BUFFER_BYTES", 100)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 40, (50,), generator=generator).tolist()
    works = [Work(size**2, (size,), torch.bfloat16) for size in sizes]
    for count in (2, 3, 8):
        turns = list(shared_work._turns(works, count))
        assert sorted(n for turn in turns for numbers in turn for n in numbers) == list(range(50))
        costs = [sum(works[n].cost for turn in turns for n in turn[rank]) for rank in range(count)]
        assert max(costs) - min(costs) <= max(work.cost for work in works)
        sent = [sum(works[n].bytes for n in numbers) for turn in turns for numbers in turn]
        assert max(sent) <= 100
        assert buffer_bytes(works, count) == 2 * max(sent)
    assert buffer_bytes(works, 1) == buffer_bytes([], 2) == 0
    assert buffer_bytes([Work(1, (1000,))], 2) == 8000  # a result above the limit is sent alone
    assert len(list(shared_work._turns(works, 2))) < 25  # small ones are sent together


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs on two processes, and the rest of interrupted ones."""
    jobs: dict[str, dict[str, Any]] = {}
    for name, optimizer in (("muon", {}), ("galore", {"rank": 4, "gap": 2})):
        settings = {"optimizer": {"kind": name} | optimizer}
        jobs[name] = {"settings": settings, "also": True}
        jobs[f"{name}-half"] = {"settings": settings, "stop": 5}
        jobs[f"{name}-rest"] = {"settings": settings, "work": f"{name}-half", "also": True}
    return several.run_in(tmp_path_factory.mktemp("two"), tiny_model, jobs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_goes_on_to_the_bit_and_replicas_stay_equal(trained: Path, name: str) -> None:
    whole = weights(trained, name)
    for job, rank in ((name, 1), (f"{name}-rest", 0), (f"{name}-rest", 1)):
        found = weights(trained, job, rank)
        assert all(torch.equal(found[key], whole[key]) for key in whole)
