"""Sums of gradients that begin while the backward pass runs; real processes are in `test_combinations.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cpt.training.distributed import collectives
from cpt.training.distributed.overlap import OverlappedSum
from cpt.training.master_weights import MasterWeights


class Twins:
    """Two processes with equal gradients; notes what is summed, and what has no gradient then."""

    def __init__(self, model: nn.Module, count: int = 2) -> None:
        self.count, self.model, self.device = count, model, torch.device("cpu")
        self.sums: list[int] = []
        self.late: list[int] = []

    def start_sum(self, tensors: list[torch.Tensor]) -> Callable[[], None]:
        self.sums.append(sum(tensor.numel() for tensor in tensors))
        self.late.append(sum(p.grad is None for p in self.model.parameters()))
        return lambda: [tensor.mul_(2) for tensor in tensors] and None


class Beside(Twins):
    """A process without gradients beside one whose gradients are all 1."""

    def start_sum(self, tensors: list[torch.Tensor]) -> Callable[[], None]:
        super().start_sum(tensors)
        return lambda: [tensor.add_(1) for tensor in tensors] and None


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))


def summed(model: nn.Module, processes: Any, passes: int, dtype: torch.dtype = torch.float32) -> Any:
    masters = MasterWeights(model, dtype)
    sums = OverlappedSum(processes, masters.weights, masters.parameters, masters.accumulate_grad)
    for number in range(passes):
        if number == passes - 1:
            sums.begin()
        model(torch.ones(1, 4, dtype=dtype)).square().sum().backward()
        masters.accumulate_grads()
    sums.finish()
    return {name: weight.grad for name, weight in masters.weights.items()}


@pytest.mark.parametrize(("dtype", "passes"), [(torch.float32, 1), (torch.bfloat16, 2)])
def test_buckets_are_summed_in_one_order_and_before_all_gradients_are_there(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, passes: int
) -> None:
    monkeypatch.setattr(collectives, "BUCKET", 20)
    processes, alone = Twins(model), copy.deepcopy(model)
    found = summed(model, processes, passes, dtype)
    flags = 8  # one for each weight: whether any process has a gradient of it
    assert processes.sums == [20] * 4 + [flags], "a matrix and a bias each, the last layer's first"
    if passes == 1:
        assert processes.late == [6, 4, 2, 0, 0]
    expected = summed(alone, Twins(alone, count=1), passes, dtype)
    for name, grad in expected.items():
        assert torch.equal(found[name], 2 * grad)


def test_a_process_without_rows_adds_zeros_in_the_same_order(model: nn.Module, monkeypatch) -> None:
    monkeypatch.setattr(collectives, "BUCKET", 20)
    processes = Beside(model)
    found = summed(model, processes, 0)
    assert processes.sums == [20] * 4 + [8]
    assert all((grad == 1).all() for grad in found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_without_gradient_in_any_process_has_none_afterwards(
    model: nn.Module, dtype: torch.dtype
) -> None:
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[0](x)
    found = summed(model, Twins(model), 1, dtype)
    assert {name for name, grad in found.items() if grad is not None} == {"0.weight", "0.bias"}


def test_weights_that_do_not_train_now_hold_up_no_other(model: nn.Module, monkeypatch) -> None:
    monkeypatch.setattr(collectives, "BUCKET", 20)
    masters, processes = MasterWeights(model, torch.float32), Twins(model)
    sums = OverlappedSum(processes, masters.weights, masters.parameters, masters.accumulate_grad)
    for parameter in model[3].parameters():
        parameter.requires_grad_(False)
    sums.begin()
    model(torch.ones(1, 4)).sum().backward()
    assert processes.sums == [0, 20, 20, 20]
    sums.finish()
    assert processes.sums == [0, 20, 20, 20, 8]
    assert masters.weights["3.weight"].grad is None


def test_a_second_gradient_of_one_pass_is_an_error(model: nn.Module) -> None:
    masters = MasterWeights(model, torch.float32)
    sums = OverlappedSum(Twins(model), masters.weights, masters.parameters, masters.accumulate_grad)
    sums.begin()
    model(torch.ones(1, 4)).sum().backward()
    with pytest.raises(RuntimeError, match="second gradient"):
        model(torch.ones(1, 4)).sum().backward()
