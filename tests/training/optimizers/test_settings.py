"""Settings of every kind: told apart by `kind`, and each of them changes where the weights go."""

from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError
from tiny_training import KINDS, OPTIMIZERS, UNUSUAL, groups, moved, noise, step
from torch import nn

from cpt.training.optimizers import AdamW, AdamW8bit, Muon, Optimizer, OptimizerConfig

OTHER: dict[str, Any] = {
    "beta1": 0.5,
    "beta2": 0.7,
    "eps": 0.1,
    "weight_decay": 1.0,
    "rank": 2,
    "gap": 3,
    "scale": 3.0,
    "limiter": 1.5,
    "seed": 1,
    "density": 0.5,
    "sign_scale": 0.5,
    "momentum": 0.5,
    "nesterov": False,
    "newton_schulz_steps": 2,
    "adjust": "original",
}
CASES = [(config, field) for config in OPTIMIZERS for field in type(config).model_fields if field != "kind"]


class Recipe(BaseModel):
    optimizer: Optimizer = AdamW()


def walk(config: OptimizerConfig) -> list[torch.Tensor]:
    """Where four steps take a matrix, an embedding (as a matrix), a norm and biases."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8))
    optimizer = config.build(groups(module))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for seed in range(4):
        step(optimizer, [noise(*weight.shape, seed=seed)[0] for weight in weights])
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize(
    ("config", "field"), CASES, ids=lambda x: x if isinstance(x, str) else type(x).__name__
)
def test_every_setting_changes_the_result(config: OptimizerConfig, field: str) -> None:
    other = type(config)(**{**config.model_dump(), field: OTHER[field]})
    assert any(not torch.equal(a, b) for a, b in zip(walk(config), walk(other), strict=True))


@pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)
def test_every_setting_is_described_and_survives_a_round_trip(config: OptimizerConfig) -> None:
    assert all(info.description for info in type(config).model_fields.values())
    assert Recipe(optimizer=config.model_dump()).optimizer == config


@pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)
def test_weight_decay_is_decoupled_and_spares_vectors(config: OptimizerConfig) -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = config.model_copy(update={"weight_decay": 0.5}).build(groups(module))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        factor = 0.95 if name == "0.weight" else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


@pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)
def test_weights_without_gradient_stay(config: OptimizerConfig) -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = config.build(groups(module))
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert not optimizer.state


@pytest.mark.parametrize("kind", ["embedding", "vector"])
@pytest.mark.parametrize("config", OPTIMIZERS, ids=KINDS)
def test_embeddings_and_vectors_move_by_adamw(config: OptimizerConfig, kind: Any) -> None:
    (start,), gradients = noise(16, 8), noise(16, 8, seed=1, count=3)
    plain = moved(AdamW(**UNUSUAL), start, gradients, kind=kind)
    unusual = config.model_copy(update=UNUSUAL)
    torch.testing.assert_close(moved(unusual, start, gradients, kind=kind), plain)


def test_a_row_of_filters_is_no_matrix() -> None:
    (start,), gradients = noise(16, 1, 4), noise(16, 1, 4, seed=1, count=3)
    torch.testing.assert_close(moved(Muon(), start, gradients), moved(AdamW(), start, gradients))


def test_kind_may_be_left_out() -> None:
    assert Recipe.model_validate({"optimizer": {"beta2": 0.99}}).optimizer == AdamW(beta2=0.99)
    assert Recipe.model_validate({"optimizer": {"kind": "adamw-8bit"}}).optimizer == AdamW8bit()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 4}, "`rank` is a setting of galore, apollo, apollo-mini; the kind is adamw"),
        ({"kind": "frugal", "momentum": 0.9}, "`momentum` is a setting of muon; the kind is frugal"),
        ({"kind": "galore", "rnk": 4}, "Extra inputs are not permitted"),
        ({"kind": "sgd"}, "does not match any of the expected tags"),
        ({"kind": ["muon"]}, "does not match any of the expected tags"),
        ({"kind": "galore", "rank": 0}, "greater than 0"),
        (7, "valid dictionary"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({"optimizer": settings})
