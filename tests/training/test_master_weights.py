import torch
from torch import nn

from cpt.training.master_weights import MasterWeights


def model() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].bias.requires_grad_(False)
    module.register_buffer("positions", torch.arange(3.0))
    return module


def test_model_computes_in_bfloat16_and_masters_keep_the_exact_weights() -> None:
    module, exact = model(), model()
    master_weights = MasterWeights(module, torch.bfloat16)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert module.positions.dtype == torch.float32
    assert set(master_weights.weights) == {"0.weight", "0.bias", "1.weight"}
    for name, weight in master_weights.weights.items():
        assert torch.equal(weight, exact.get_parameter(name))


def test_gradients_of_several_backward_passes_add_up_in_float32() -> None:
    module = model()
    master_weights = MasterWeights(module, torch.bfloat16)
    total = torch.zeros(3, 3)
    for scale in (1.0, 300.0):
        module(torch.ones(1, 3, dtype=torch.bfloat16) * scale).sum().backward()
        total += module[0].weight.grad.float()
        master_weights.accumulate_grads()
        assert module[0].weight.grad is None
    assert torch.equal(master_weights.weights["0.weight"].grad, total)


def test_updates_too_small_for_bfloat16_are_not_lost() -> None:
    module = model()
    master_weights = MasterWeights(module, torch.bfloat16)
    weight = master_weights.weights["0.weight"]
    start = weight.detach().clone()
    for _ in range(100):
        weight.data.mul_(1 + 1e-4)
        master_weights.sync_to_model()
    torch.testing.assert_close(module[0].weight.float(), start * (1 + 1e-4) ** 100, rtol=1 / 128, atol=0)
    assert not torch.equal(module[0].weight, start.bfloat16())


def test_release_gives_the_masters_to_the_model() -> None:
    module = model()
    master_weights = MasterWeights(module, torch.bfloat16)
    master_weights.weights["0.weight"].data.add_(1e-6)
    expected = master_weights.weights["0.weight"].detach().clone()
    master_weights.restore_model(module)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert torch.equal(module[0].weight, expected)


def test_release_gives_frozen_weights_back_as_they_were() -> None:
    module, exact = model(), model()
    for part in (module, exact):
        part[1].weight.requires_grad_(False)
        part[1].weight.data.copy_(torch.ones(3, 3))  # which bfloat16 can hold
    master_weights = MasterWeights(module, torch.bfloat16)
    assert not torch.equal(module[1].bias.float(), exact[1].bias)
    assert set(master_weights._frozen) == {"1.bias"}
    master_weights.restore_model(module)
    assert torch.equal(module[1].bias, exact[1].bias)
    assert torch.equal(module[1].weight, exact[1].weight)


def test_in_float32_master_and_model_are_one() -> None:
    module = model()
    master_weights = MasterWeights(module, torch.float32)
    assert master_weights.weights["0.weight"] is module[0].weight
    module(torch.ones(1, 3)).sum().backward()
    master_weights.accumulate_grads()
    assert master_weights.weights["0.weight"].grad is not None
