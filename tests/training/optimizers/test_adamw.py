import torch
from tiny_training import groups
from torch import nn

from cpt.training.optimizers import AdamW


def test_norms_and_biases_are_not_decayed() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = AdamW(weight_decay=0.5).build(groups(module))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in module.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_every_setting_reaches_the_optimizer() -> None:
    group = AdamW(beta1=0.8, beta2=0.9, eps=1e-5).build(groups(nn.Linear(2, 2))).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)


def test_first_step_has_the_size_of_the_rate() -> None:
    module = nn.Linear(3, 1, bias=False)
    before = module.weight.detach().clone()
    optimizer = AdamW(weight_decay=0).build(groups(module))
    optimizer.param_groups[0]["lr"] = 0.01
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before - 0.01)
