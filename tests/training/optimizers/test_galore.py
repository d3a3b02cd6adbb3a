import numpy as np
import pytest
import torch
from tiny_training import UNUSUAL, moved, noise

from cpt.training.optimizers import AdamW, GaLore
from cpt.training.optimizers.galore import leading_directions

TALL, WIDE = (7, 4), (4, 7)


def by_hand(config: GaLore, start: np.ndarray, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    """The formulas, for one matrix, by the singular value decomposition."""
    weight, tall = start.copy(), start.shape[0] >= start.shape[1]
    first = second = projection = np.zeros(())
    for t, gradient in enumerate(gradients):
        if t % config.gap == 0:
            left, _, right = np.linalg.svd(gradient, full_matrices=False)
            vectors = (right.T if tall else left)[:, : config.rank]
            projection = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        low = gradient @ projection if tall else projection.T @ gradient
        first = config.beta1 * first + (1 - config.beta1) * low
        second = config.beta2 * second + (1 - config.beta2) * low**2
        corrected = second / (1 - config.beta2 ** (t + 1))
        direction = first / (1 - config.beta1 ** (t + 1)) / (np.sqrt(corrected) + config.eps)
        back = direction @ projection.T if tall else projection @ direction
        weight = weight * (1 - rate * config.weight_decay) - rate * config.scale * back
    return weight


@pytest.mark.parametrize("shape", [TALL, WIDE, (5, 5)])
@pytest.mark.parametrize("rank", [1, 3, 9])
def test_equals_the_formulas_over_several_projections(shape: tuple[int, int], rank: int) -> None:
    config = GaLore(rank=rank, gap=3, scale=0.5, **UNUSUAL)
    (start,), gradients = noise(*shape), noise(*shape, seed=1, count=8)
    expected = by_hand(config, start.double().numpy(), [g.double().numpy() for g in gradients], rate=0.1)
    torch.testing.assert_close(moved(config, start, gradients), torch.tensor(expected).float())


def test_full_rank_round_trip_reproduces_the_gradient() -> None:
    (gradient,) = noise(*TALL)
    projection = leading_directions(gradient, 4)
    torch.testing.assert_close(gradient @ projection @ projection.T, gradient)


def test_leading_directions_hold_as_much_of_the_gradient_as_any() -> None:
    (gradient,) = noise(30, 20)
    kept = (gradient @ leading_directions(gradient, 5)).square().sum()
    torch.testing.assert_close(kept, torch.linalg.svdvals(gradient)[:5].square().sum())


def test_full_rank_is_adamw_in_rotated_coordinates() -> None:
    (start,), gradients = noise(*TALL), noise(*TALL, seed=1, count=5)
    projection = leading_directions(gradients[0], 4)
    rotated = moved(AdamW(), start @ projection, [g @ projection for g in gradients])
    ours = moved(GaLore(rank=4, gap=100, scale=1.0), start, gradients)
    torch.testing.assert_close(ours, rotated @ projection.T)


def test_stacked_matrices_move_as_each_alone() -> None:
    (start,), gradients = noise(3, *WIDE), noise(3, *WIDE, seed=1, count=5)
    config = GaLore(rank=2, gap=2)
    together = moved(config, start, gradients)
    for index in range(3):
        alone = moved(config, start[index], [gradient[index] for gradient in gradients])
        torch.testing.assert_close(together[index], alone)
