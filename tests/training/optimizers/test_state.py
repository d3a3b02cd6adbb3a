"""State of every optimizer: all of it in a checkpoint, as many bytes as predicted."""

from pathlib import Path

import pytest
import torch
from tiny_training import KINDS, OPTIMIZERS, noise, step
from torch import nn

from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import OptimizerState, Stateful, WeightState
from cpt.training.checkpoint.store import Store
from cpt.training.optimizers import (
    AdamW,
    AdamW8bit,
    Apollo,
    ApolloMini,
    Frugal,
    GaLore,
    Muon,
    OptimizerConfig,
    state_bytes,
)
from cpt.training.optimizers.groups import Group

every_optimizer = pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)


def weights() -> list[Group]:
    """Tall, wide, stacked and filter-like matrices, an embedding and a norm."""
    torch.manual_seed(0)
    matrices = {"up": (24, 8), "down": (8, 24), "experts": (3, 8, 12), "filters": (8, 1, 4), "odd": (33, 17)}
    return [
        Group("matrices", "matrix", {n: nn.Parameter(torch.randn(s)) for n, s in matrices.items()}),
        Group("embeddings", "embedding", {"embedding": nn.Parameter(torch.randn(20, 8))}, rate=0.5),
        Group("norms and biases", "vector", {"norm": nn.Parameter(torch.ones(8))}),
    ]


def by_name(groups: list[Group]) -> dict[str, nn.Parameter]:
    return {name: weight for group in groups for name, weight in group.weights.items()}


def parts(groups: list[Group], optimizer: torch.optim.Optimizer) -> dict[str, Stateful]:
    return {
        "weights": WeightState(by_name(groups), lambda: None),
        "optimizer": OptimizerState(optimizer, by_name(groups)),
    }


def advance(optimizer: torch.optim.Optimizer, steps: range) -> None:
    shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
    for seed in steps:
        step(optimizer, [noise(*shape, seed=seed)[0] for shape in shapes])


@every_optimizer
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_stopped_and_resumed_equals_uninterrupted(config: OptimizerConfig, stop: int, tmp_path: Path) -> None:
    whole, before, after = weights(), weights(), weights()
    uninterrupted = config.build(whole)
    advance(uninterrupted, range(5))
    optimizer = config.build(before)
    advance(optimizer, range(stop))
    Store(tmp_path, keep=1).save({"": Snapshot.of(parts(before, optimizer), stop)})
    resumed = config.build(after)
    torch.manual_seed(stop)
    saved, _ = Store(tmp_path, keep=1).newest()
    assert saved is not None
    saved[""].restore(parts(after, resumed))
    advance(resumed, range(stop, 5))
    for name, weight in by_name(whole).items():
        assert torch.equal(weight, by_name(after)[name]), name
        found, wanted = resumed.state[by_name(after)[name]], uninterrupted.state[weight]
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@every_optimizer
def test_state_keeps_its_data_types_through_torchs_own_format(config: OptimizerConfig) -> None:
    before, after = weights(), weights()
    optimizer, other = config.build(before), config.build(after)
    advance(optimizer, range(2))
    other.load_state_dict(optimizer.state_dict())
    for name, weight in by_name(before).items():
        for key, value in optimizer.state[weight].items():
            found = other.state[by_name(after)[name]][key]
            assert found.dtype == value.dtype
            assert torch.equal(found, value)


@every_optimizer
def test_state_is_as_large_as_predicted(config: OptimizerConfig) -> None:
    groups = weights()
    optimizer = config.build(groups)
    advance(optimizer, range(3))
    shapes = [(g.kind, tuple(weight.shape)) for g in groups for weight in g.weights.values()]
    assert state_bytes(optimizer) == config.predicted_state_bytes(shapes)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (AdamW(), 4 * (2 * 100 * 60 + 1)),
        (AdamW8bit(), 2 * 100 * 60 + 4 * (2 * 24 + 1)),
        (GaLore(rank=10), 4 * (2 * 10 * 100 + 10 * 60 + 1)),
        (GaLore(rank=999), 4 * (2 * 60 * 100 + 60 * 60 + 1)),
        (Apollo(rank=10), 4 * (2 * 10 * 100 + 2)),
        (ApolloMini(), 4 * (2 * 100 + 2)),
        (Frugal(density=0.25), 4 * (2 * 100 * 15 + 1)),
        (Muon(), 4 * 100 * 60),
    ],
)
def test_bytes_by_the_closed_form(config: OptimizerConfig, expected: int) -> None:
    assert config.predicted_state_bytes([("matrix", (100, 60))]) == expected
    assert config.predicted_state_bytes([("embedding", (100, 60))]) == 4 * (2 * 100 * 60 + 1)
