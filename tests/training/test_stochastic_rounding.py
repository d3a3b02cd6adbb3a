"""Bfloat16 weights that are rounded by chance."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import SETTINGS, equal, run
from tiny_training import noise
from torch import nn

from cpt.errors import StageFailed
from cpt.training import master_weights
from cpt.training.master_weights import StochasticRounding, round_stochastically

ROUNDED = SETTINGS.with_changes(dtype=torch.bfloat16, master_weights="stochastic-rounding")


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    layers[1].bias.requires_grad_(False)
    return layers


@pytest.mark.parametrize("value", [1.0 + 2**-9, -3.7, 1e-30, -(2.0 - 2**-20), 0.1])
def test_rounding_is_right_on_average_and_goes_to_a_neighbour(value: float) -> None:
    exact = torch.full((400, 101), value)
    rounded = round_stochastically(exact, seed=1)
    assert rounded.dtype == torch.bfloat16
    below = (exact.view(torch.int32) & -0x10000).view(torch.float32)
    step = (exact.view(torch.int32) - below.view(torch.int32)) / 2**16  # how far up the value lies
    above = ((exact.view(torch.int32) & -0x10000) + 0x10000).view(torch.float32)
    assert set(rounded.float().unique().tolist()) == {below[0, 0].item(), above[0, 0].item()}
    up = (rounded.float() == above).double().mean().item()
    share = step[0, 0].item()
    assert abs(up - share) < 5 * (share * (1 - share) / exact.numel()) ** 0.5
    mean = rounded.double().mean().item()
    assert mean == pytest.approx(value, abs=5 * abs((above - below)[0, 0].item()) / exact.numel() ** 0.5)


def test_numbers_that_bfloat16_has_stay_themselves() -> None:
    exact = torch.tensor([0.0, -0.0, 1.5, -2.0, float("inf"), float("-inf")])
    assert torch.equal(round_stochastically(exact, seed=3).float(), exact)
    assert round_stochastically(torch.zeros(0), seed=3).shape == (0,)
    assert round_stochastically(torch.tensor(1.0), seed=3).shape == ()


def test_rounding_follows_from_the_seed() -> None:
    exact = torch.randn(50, 7)
    assert torch.equal(round_stochastically(exact, 5), round_stochastically(exact, 5))
    assert not torch.equal(round_stochastically(exact, 5), round_stochastically(exact, 6))
    transposed = round_stochastically(exact.T, 5)
    assert (transposed.float() - exact.T).abs().max() < 0.05


def test_updates_too_small_for_bfloat16_are_not_lost_on_average() -> None:
    weights = nn.Linear(200, 200, bias=False)
    nn.init.constant_(weights.weight, 1.0)
    held = StochasticRounding(weights, seed=0)
    optimizer = torch.optim.SGD(weights.parameters(), lr=1e-3)  # bfloat16 numbers near 1 are 0.0078 apart
    held.register_hooks(optimizer)
    for _ in range(20):
        weights.weight.grad = torch.full((200, 200), -1.0)
        optimizer.step()
    assert weights.weight.dtype == torch.bfloat16
    assert weights.weight.double().mean().item() == pytest.approx(1.02, abs=5e-4)


def test_optimizer_moves_float32_and_gradients_add_up_in_float32() -> None:
    layers = module()
    held = StochasticRounding(layers, seed=0)
    assert set(held.weights) == {"0.weight", "0.bias", "1.weight"}
    assert {p.dtype for p in layers.parameters()} == {torch.bfloat16}
    optimizer = torch.optim.AdamW(held.weights.values(), lr=0.1, fused=True)
    held.register_hooks(optimizer)
    total = torch.zeros(3)
    for scale in (1.0, 300.0):
        inputs = torch.ones(1, 3, dtype=torch.bfloat16) * scale
        total += torch.autograd.grad(layers(inputs).sum(), layers[0].bias, retain_graph=True)[0].float()
        layers(inputs).sum().backward()
        held.accumulate_grads()
    assert torch.equal(layers[0].bias.grad, total)
    optimizer.step()
    held.sync_to_model()
    assert {value.dtype for key, value in optimizer.state[layers[0].weight].items() if "exp" in key} == {
        torch.float32
    }
    assert {p.dtype for p in layers.parameters()} == {torch.bfloat16}
    held.restore_model(layers)
    assert {p.dtype for p in layers.parameters()} == {torch.float32}


def test_weights_without_a_gradient_stay(tmp_path: Path) -> None:
    layers = module()
    held = StochasticRounding(layers, seed=0)
    before = layers[0].weight.detach().clone()
    optimizer = torch.optim.AdamW(held.weights.values(), lr=0.1)
    held.register_hooks(optimizer)
    layers[0].bias.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(layers[0].weight, before)
    assert layers[0].weight not in optimizer.state


def test_an_older_torch_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(master_weights, "torch", SimpleNamespace(Tensor=object, __version__="2.6.0"))
    with pytest.raises(StageFailed, match=r"newer PyTorch than 2\.6\.0"):
        StochasticRounding(module(), seed=0)


def test_training_with_rounding_is_another_training_and_its_seed_matters(
    tiny_model: Path, tmp_path: Path
) -> None:
    masters, _, _ = run(tiny_model, tmp_path / "m", SETTINGS.with_changes(dtype=torch.bfloat16))
    rounded, _, _ = run(tiny_model, tmp_path / "r", ROUNDED)
    seeded, _, _ = run(tiny_model, tmp_path / "s", ROUNDED.with_changes(seed=1))
    assert not equal(masters, rounded)
    assert not equal(rounded, seeded)
    for name, weight in rounded.items():
        assert torch.equal(weight, weight.bfloat16().float())
        assert (weight - masters[name]).abs().mean() < 0.01


def test_killed_and_continued_equals_uninterrupted(tiny_model: Path, tmp_path: Path) -> None:
    whole, _, _ = run(tiny_model, tmp_path / "whole", ROUNDED)
    for step in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", ROUNDED, die_at=step)
    again, _, _ = run(tiny_model, tmp_path / "killed", ROUNDED)
    assert equal(whole, again)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shards_are_rounded_as_the_whole_is_however_many_there_are(count: int) -> None:
    (exact,) = noise(7, 5)
    whole = round_stochastically(exact, seed=4)
    shards = exact.chunk(count)
    before = [sum(shard.numel() for shard in shards[:number]) for number in range(len(shards))]
    rounded = [
        round_stochastically(shard, 4, first, exact.numel())
        for shard, first in zip(shards, before, strict=True)
    ]
    assert torch.equal(torch.cat(rounded), whole)
