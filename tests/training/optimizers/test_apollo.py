import math
from itertools import pairwise

import pytest
import torch
from tiny_training import UNUSUAL, moved, noise
from torch import Tensor

from cpt.training.optimizers import Apollo, ApolloMini
from cpt.training.optimizers.apollo import ApolloConfig
from cpt.training.optimizers.matrices import Matrix


def projection(config: ApolloConfig, shape: tuple[int, int], period: int, name: str = "w") -> Tensor:
    """The optimizer's random P, [shorter side, rank]."""
    rank = min(config.rank, *shape)
    state = {"step": torch.tensor(float(period * config.gap)), "exp_avg": torch.zeros(max(shape), rank)}
    return config.projection(Matrix(name, torch.zeros(shape), torch.zeros(shape), state))


def by_hand(config: ApolloConfig, start: Tensor, gradients: list[Tensor], rate: float) -> tuple[Tensor, int]:
    """The formulas for one matrix, in float64, channel by channel; and how often the limiter acted."""
    weight, tall, shape = start.double(), start.shape[0] >= start.shape[1], tuple(start.shape)
    first = second = torch.zeros(())
    last, limited = 0.0, 0
    for t, gradient in enumerate(g.double() for g in gradients):
        p = projection(config, shape, t // config.gap).double()
        low = gradient @ p if tall else p.T @ gradient
        first = config.beta1 * first + (1 - config.beta1) * low
        second = config.beta2 * second + (1 - config.beta2) * low**2
        corrected = second / (1 - config.beta2 ** (t + 1))
        direction = first / (1 - config.beta1 ** (t + 1)) / (corrected.sqrt() + config.eps)
        scaled = gradient.clone()
        if config.by_channel:
            for j in range(max(shape)):
                at = (j, slice(None)) if tall else (slice(None), j)
                scaled[at] *= direction[at].norm() / low[at].norm()
        else:
            scaled *= direction.norm() / low.norm()
        if last and scaled.norm() > config.limiter * last:
            scaled *= config.limiter * last / scaled.norm()
            limited += 1
        last = float(scaled.norm())
        weight = weight * (1 - rate * config.weight_decay) - rate * math.sqrt(config.scale) * scaled
    return weight.float(), limited


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
@pytest.mark.parametrize(
    "config", [Apollo(rank=2, gap=3, **UNUSUAL), Apollo(gap=3, scale=2.0), ApolloMini(gap=3)]
)
def test_equals_the_formulas_over_several_projections(config: ApolloConfig, shape: tuple[int, int]) -> None:
    (start,), gradients = noise(*shape), noise(*shape, seed=1, count=8)
    expected, limited = by_hand(config, start, gradients, rate=0.01)
    assert 0 < limited < 7
    torch.testing.assert_close(moved(config, start, gradients, 0.01), expected, rtol=1e-4, atol=1e-5)


def test_updates_grow_by_the_limiter_at_most() -> None:
    (start,), (gradient,) = noise(6, 4), noise(6, 4, seed=1)
    gradients = [gradient * 10**t for t in range(4)]
    places = [moved(ApolloMini(weight_decay=0), start, gradients[:t], 1e-3) for t in range(5)]
    lengths = [float((b - a).norm()) for a, b in pairwise(places)]
    for before, after in pairwise(lengths):
        assert after <= 1.0101 * before


def test_zero_gradients_do_not_hold_later_updates_down() -> None:
    (start,), (gradient,) = noise(6, 4), noise(6, 4, seed=1)
    still = moved(Apollo(weight_decay=0), start, [torch.zeros(6, 4)])
    assert torch.equal(still, start)
    assert (moved(Apollo(weight_decay=0), start, [torch.zeros(6, 4), gradient]) - start).norm() > 0.05


def test_projections_are_a_function_of_seed_name_and_period() -> None:
    config, shape = Apollo(rank=3), (8, 5)
    plain = projection(config, shape, 0)
    torch.manual_seed(5)
    assert torch.equal(plain, projection(config, shape, 0))
    for other in (
        projection(config, shape, 1),
        projection(config, shape, 0, "v"),
        projection(Apollo(rank=3, seed=1), shape, 0),
    ):
        assert not torch.equal(plain, other)


def test_projections_keep_lengths_on_average() -> None:
    p = projection(Apollo(rank=64), (400, 300), 0)
    (rows,) = noise(50, 300)
    torch.testing.assert_close((rows @ p).norm(dim=1) / rows.norm(dim=1), torch.ones(50), rtol=0.4, atol=0)
    assert float(p.var()) == pytest.approx(1 / 64, rel=0.05)


def test_stacked_matrices_move_as_each_alone() -> None:
    (start,), gradients = noise(3, 4, 7), noise(3, 4, 7, seed=1, count=5)
    together = moved(Apollo(rank=2, gap=2), start, gradients)
    for index in range(3):
        alone = moved(Apollo(rank=2, gap=2), start[index], [gradient[index] for gradient in gradients])
        torch.testing.assert_close(together[index], alone)
