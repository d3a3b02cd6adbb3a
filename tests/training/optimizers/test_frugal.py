import torch
from tiny_training import UNUSUAL, moved, noise

from cpt.training.optimizers import AdamW, Frugal


def columns_moved_by_sign(before: torch.Tensor, after: torch.Tensor, gradient: torch.Tensor, rate: float):
    """Per column, whether the sign of the gradient moved all of it."""
    return torch.isclose(after, before - rate * gradient.sign(), atol=1e-6).all(0)


def test_density_one_is_adamw() -> None:
    (start,), gradients = noise(5, 8), noise(5, 8, seed=1, count=6)
    torch.testing.assert_close(
        moved(Frugal(density=1, **UNUSUAL), start, gradients),
        moved(AdamW(**UNUSUAL), start, gradients),
    )


def test_density_zero_is_sign_descent() -> None:
    (start,), gradients = noise(5, 8), noise(5, 8, seed=1, count=6)
    expected = start.clone()
    for gradient in gradients:
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * 0.5 * gradient.sign()
    ours = moved(Frugal(density=0, sign_scale=0.5, weight_decay=0.2), start, gradients)
    torch.testing.assert_close(ours, expected)


def test_chosen_columns_move_by_adam_and_the_others_by_sign() -> None:
    (start,), gradients = noise(5, 8), noise(5, 8, seed=1, count=3)
    config = Frugal(density=0.25, weight_decay=0)
    places = [start, *(moved(config, start, gradients[: t + 1]) for t in range(3))]
    adam = moved(AdamW(weight_decay=0), start, gradients)
    by_sign = columns_moved_by_sign(places[2], places[3], gradients[2], 0.1)
    assert int(by_sign.sum()) == 6
    torch.testing.assert_close(places[3][:, ~by_sign], adam[:, ~by_sign])


def test_every_gap_columns_change_and_adam_starts_anew() -> None:
    (start,), gradients = noise(5, 64), noise(5, 64, seed=1, count=4)
    config = Frugal(density=0.25, gap=2, weight_decay=0)
    places = [start, *(moved(config, start, gradients[: t + 1]) for t in range(4))]
    fresh = moved(AdamW(weight_decay=0), places[2], gradients[2:])
    second = columns_moved_by_sign(places[1], places[2], gradients[1], 0.1)
    fourth = columns_moved_by_sign(places[3], places[4], gradients[3], 0.1)
    assert int(second.sum()) == int(fourth.sum()) == 48
    assert not torch.equal(second, fourth)
    torch.testing.assert_close(places[4][:, ~fourth], fresh[:, ~fourth])


def test_columns_are_a_function_of_the_seed() -> None:
    (start,), gradients = noise(5, 64), noise(5, 64, seed=1, count=3)
    one = moved(Frugal(gap=2), start, gradients)
    torch.manual_seed(5)
    assert torch.equal(one, moved(Frugal(gap=2), start, gradients))
    assert not torch.equal(one, moved(Frugal(gap=2, seed=1), start, gradients))
