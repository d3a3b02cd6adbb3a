import pytest
import torch
from tiny_training import groups, moved, noise
from torch import nn

from cpt.training.optimizers import AdamW
from cpt.training.optimizers.groups import Group


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


def test_equals_the_textbook_formula() -> None:
    (start,), gradients = noise(3, 5), noise(3, 5, seed=1, count=4)
    config, rate = AdamW(beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.5), 0.1
    weight, first, second = start.double(), torch.zeros(3, 5), torch.zeros(3, 5)
    for t, gradient in enumerate(gradients, start=1):
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        weight = weight * (1 - rate * 0.5)
        weight = weight - rate * (first / (1 - 0.8**t)) / ((second / (1 - 0.9**t)).sqrt() + 1e-3)
    torch.testing.assert_close(moved(config, start, gradients, rate), weight.float())


def test_first_step_has_the_size_of_the_rate() -> None:
    ones = torch.ones(1, 3)
    torch.testing.assert_close(moved(AdamW(weight_decay=0), ones, [ones], rate=0.01), ones - 0.01)


@pytest.mark.parametrize("multiple", [0.0, 2.0])
def test_groups_carry_their_name_and_multiple(multiple: float) -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    (group,) = AdamW().build([Group("new rows", "embedding", {"w": weight}, multiple)]).param_groups
    assert (group["name"], group["multiple"]) == ("new rows", multiple)
