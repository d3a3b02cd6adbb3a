from pathlib import Path

import pytest
import torch
from tiny_training import groups
from torch import nn

from cpt.training.checkpoint import load_newest, save_checkpoint
from cpt.training.optimizers import AdamW


def trained(seed: int = 0) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    optimizer = AdamW().build(groups(module))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    module(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return dict(module.named_parameters()), optimizer


def moments(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for p in weights.values() for _, value in sorted(optimizer.state[p].items())]


def test_round_trip_is_exact(tmp_path: Path) -> None:
    weights, optimizer = trained()
    save_checkpoint(tmp_path, weights, optimizer, {"step": 3, "tokens": 7}, keep=1)
    other, other_optimizer = trained(seed=1)
    state, damaged = load_newest(tmp_path, other, other_optimizer)
    assert (state, damaged) == ({"step": 3, "tokens": 7}, [])
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), other.values(), strict=True))
    before, after = moments(weights, optimizer), moments(other, other_optimizer)
    assert len(before) == 12
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_keep_decides_how_many_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, *trained(), {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, file: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, *trained(), {"step": step}, keep=2)
    damaged = tmp_path / "step-000000002" / file
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 0xFF
    damaged.write_bytes(content)
    state, names = load_newest(tmp_path, *trained())
    assert state == {"step": 1}
    assert names == ["step-000000002"]
    save_checkpoint(tmp_path, *trained(), {"step": 2}, keep=1)
    assert load_newest(tmp_path, *trained()) == ({"step": 2}, [])


def test_an_interrupted_write_is_not_seen(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *trained(), {"step": 1}, keep=1)
    (tmp_path / "step-000000001").rename(tmp_path / ".step-000000001")
    assert load_newest(tmp_path, *trained()) == (None, [])


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    module = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    module["b"].weight = module["a"].weight
    optimizer = AdamW().build(groups(module))
    weights = dict(module.named_parameters())
    save_checkpoint(tmp_path, weights, optimizer, {"step": 1}, keep=1)
    with torch.no_grad():
        module["a"].weight.zero_()
    load_newest(tmp_path, weights, optimizer)
    assert module["b"].weight is module["a"].weight
    assert module["b"].weight.abs().sum() > 0
