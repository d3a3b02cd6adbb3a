"""The pull towards the start, against its formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import SETTINGS, equal, run
from tiny_training import KINDS, OPTIMIZERS, noise, step
from torch import nn

from cpt.models.packed_model import load_model
from cpt.training.features.l2_sp import L2SP, L2SPConfig
from cpt.training.optimizers import AdamW, OptimizerConfig
from cpt.training.optimizers.groups import Group
from cpt.training.settings import Settings

PULLED = SETTINGS.with_changes(l2_sp=L2SPConfig(strength=20))


@pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)
def test_a_step_begins_with_the_pull_and_goes_on_as_the_optimizer_has_it(config: OptimizerConfig) -> None:
    """By hand: the same optimizer without a pull, whose weight is moved back a little before every step."""
    (start,), gradients = noise(8, 6), noise(8, 6, seed=1, count=4)
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    pulled, plain = (config.build([Group("all", "matrix", {"w": w}, rate=2.0)]) for w in weights)
    L2SP(L2SPConfig(strength=1.5)).attach(pulled)
    for gradient in gradients:
        step(pulled, [gradient], rate=0.1)
        with torch.no_grad():
            weights[1] -= 0.1 * 2.0 * 1.5 * (weights[1] - start)
        step(plain, [gradient], rate=0.1)
        torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-5)


def test_what_does_not_move_in_a_step_is_not_pulled() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = AdamW().build([Group("all", "matrix", {"w": weight})])
    L2SP(L2SPConfig(strength=5)).attach(optimizer)
    with torch.no_grad():
        weight.fill_(2.0)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert weight.tolist() == [2.0] * 3


def distance(weights: dict[str, torch.Tensor], model: Path) -> float:
    starts = dict(load_model(model).named_parameters())
    return sum(float((weights[name] - starts[name].detach()).square().sum()) for name in weights) ** 0.5


def test_the_stronger_the_pull_the_nearer_the_start(tiny_model: Path, tmp_path: Path) -> None:
    distances = []
    for strength in (1e-6, 20.0, 80.0):
        settings = PULLED.with_changes(l2_sp=L2SPConfig(strength=strength))
        weights, _, _ = run(tiny_model, tmp_path / str(strength), settings)
        distances.append(distance(weights, tiny_model))
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.9 * distances[0]


@pytest.mark.parametrize(
    "settings",
    [
        PULLED,
        PULLED.with_changes(dtype=torch.bfloat16),
        PULLED.with_changes(dtype=torch.bfloat16, master_weights="stochastic-rounding"),
    ],
    ids=["fp32", "bf16", "by-chance"],
)
def test_killed_and_continued_equals_uninterrupted(
    tiny_model: Path, tmp_path: Path, settings: Settings
) -> None:
    whole, _, _ = run(tiny_model, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", settings, die_at=5)
    again, _, _ = run(tiny_model, tmp_path / "killed", settings)
    assert equal(whole, again)
    plain, _, _ = run(tiny_model, tmp_path / "plain", settings.with_changes(l2_sp=None))
    assert not equal(whole, plain)
