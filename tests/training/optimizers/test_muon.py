import pytest
import torch
from tiny_training import moved, noise

from cpt.training.optimizers import AdamW, Muon
from cpt.training.optimizers.muon import orthogonal

SHAPES = [(24, 8), (8, 24), (12, 12)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("adjust", ["match-adamw", "original"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equals_torch(shape: tuple[int, int], adjust: str, nesterov: bool) -> None:
    (start,), gradients = noise(*shape), noise(*shape, seed=1, count=4)
    weight = torch.nn.Parameter(start.clone())
    reference = torch.optim.Muon(
        [weight],
        lr=0.1,
        weight_decay=0.3,
        momentum=0.9,
        nesterov=nesterov,
        adjust_lr_fn={"match-adamw": "match_rms_adamw", "original": "original"}[adjust],
    )
    for gradient in gradients:
        weight.grad = gradient
        reference.step()
    config = Muon(momentum=0.9, nesterov=nesterov, weight_decay=0.3, adjust=adjust)
    torch.testing.assert_close(moved(config, start, gradients), weight.detach(), rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    (x,) = noise(*shape)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    update = orthogonal(x, 5).float()
    values = torch.linalg.svdvals(update)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    torch.testing.assert_close(left.mT @ update @ right.mT, torch.eye(min(shape)), rtol=0, atol=0.35)


def test_updates_are_as_large_as_those_of_adamw() -> None:
    (start,), gradients = noise(64, 128), noise(64, 128, seed=1)
    muon = moved(Muon(weight_decay=0), start, gradients) - start
    adamw = moved(AdamW(weight_decay=0), start, gradients) - start
    assert 0.1 < float(muon.norm() / adamw.norm()) < 0.3  # Adam's later steps are 0.2 to 0.4 of its first


@pytest.mark.parametrize(
    ("adjust", "shape", "size"),
    [("match-adamw", (100, 25), 2.0), ("original", (100, 25), 2.0), ("original", (25, 100), 1.0)],
)
def test_size_follows_the_shape(adjust: str, shape: tuple[int, int], size: float) -> None:
    assert Muon(adjust=adjust).size(*shape) == pytest.approx(size)


def test_stacked_matrices_move_as_each_alone() -> None:
    (start,), gradients = noise(3, 8, 24), noise(3, 8, 24, seed=1, count=3)
    together = moved(Muon(), start, gradients)
    for index in range(3):
        alone = moved(Muon(), start[index], [gradient[index] for gradient in gradients])
        torch.testing.assert_close(together[index], alone, rtol=0, atol=0.01)
