"""Orthogonal matching pursuit: against a plain one, sparse targets, the residual, the search in bfloat16."""

import numpy as np
import pytest
import torch

from tokenizer_tools.embeddings import omp
from tokenizer_tools.embeddings.omp import (
    exact_search,
    orthogonal_matching_pursuit,
    screened_search,
)

SEARCHES = pytest.mark.parametrize("screen", [True, False], ids=["bfloat16 first", "float32"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embedding_like(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Rows of varied length that share a direction and have a few strong dimensions."""
    spread = torch.logspace(0, -1, width) * (0.5 + normal(rows, 1, seed=seed + 1).abs())
    return normal(rows, width, seed=seed) * spread + 0.3


def plain(target: np.ndarray, atoms: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """The textbook's loop: take the atom, solve least squares for all that were taken."""
    taken: list[int] = []
    residual = target
    for _ in range(k):
        products = np.abs(atoms @ residual)
        products[taken] = -1
        taken.append(int(products.argmax()))
        coefficients = np.linalg.lstsq(atoms[taken].T, target, rcond=None)[0]
        residual = target - coefficients @ atoms[taken]
    return taken, coefficients


def approximations(targets: torch.Tensor, atoms: torch.Tensor, k: int, screen: bool) -> torch.Tensor:
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, k, screen=screen)
    return (coefficients[:, None] @ atoms[indices]).squeeze(1)


@SEARCHES
def test_equals_a_plain_loop(screen: bool) -> None:
    targets, atoms = embedding_like(20, 16, seed=5), embedding_like(50, 16)
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, 8, screen=screen)
    for target, taken, weights in zip(targets, indices, coefficients, strict=True):
        expected, least_squares = plain(target.double().numpy(), atoms.double().numpy(), 8)
        assert taken.tolist() == expected
        assert np.allclose(weights.numpy(), least_squares, rtol=1e-3, atol=1e-4)


@SEARCHES
def test_recovers_a_sum_of_two_atoms(screen: bool) -> None:
    atoms = torch.nn.functional.normalize(normal(40, 64))
    targets = torch.stack([2 * atoms[3] - 0.5 * atoms[17], atoms[8] + 0.7 * atoms[0], -atoms[30]])
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, 10, screen=screen)
    weights = torch.zeros(3, 40).scatter_add_(1, indices, coefficients)
    expected = torch.zeros(3, 40)
    expected[0, 3], expected[0, 17], expected[1, 8], expected[1, 0], expected[2, 30] = 2, -0.5, 1, 0.7, -1
    assert torch.allclose(weights, expected, atol=1e-5)


@SEARCHES
def test_residual_falls_to_nothing_at_full_width(screen: bool) -> None:
    targets, atoms = embedding_like(12, 24, seed=7), embedding_like(200, 24)
    residuals = torch.stack(
        [(targets - approximations(targets, atoms, k, screen)).norm(dim=1) for k in range(1, 25)]
    )
    assert (residuals[1:] <= residuals[:-1] + 1e-5).all()
    assert (residuals[-1] < 1e-3 * targets.norm(dim=1)).all()


@SEARCHES
def test_k_is_at_most_atoms_and_width(screen: bool) -> None:
    assert orthogonal_matching_pursuit(normal(2, 8), normal(5, 8), 64, screen=screen)[0].shape == (2, 5)
    assert orthogonal_matching_pursuit(normal(2, 8), normal(50, 8), 64, screen=screen)[0].shape == (2, 8)


@SEARCHES
def test_atoms_that_depend_on_each_other(screen: bool) -> None:
    atoms = torch.cat([normal(3, 16), normal(3, 16), torch.zeros(1, 16)])
    targets = torch.cat([normal(4, 16, seed=9), torch.zeros(1, 16)])
    made = approximations(targets, atoms, 7, screen)
    projected = targets @ torch.linalg.pinv(atoms) @ atoms
    assert torch.allclose(made, projected, atol=1e-4)


@SEARCHES
def test_no_targets(screen: bool) -> None:
    indices, coefficients = orthogonal_matching_pursuit(normal(0, 8), normal(5, 8), 3, screen=screen)
    assert indices.shape == coefficients.shape == (0, 3)


def test_parts_and_repetitions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, atoms = embedding_like(40, 16, seed=3), embedding_like(90, 16)
    whole = orthogonal_matching_pursuit(targets, atoms, 6)
    again = orthogonal_matching_pursuit(targets, atoms, 6)
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    monkeypatch.setattr(omp, "_CHUNK_ELEMENTS", 900)
    parts = orthogonal_matching_pursuit(targets, atoms, 6)
    assert torch.equal(parts[0], whole[0])
    assert torch.allclose(parts[1], whole[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("close", [0.0, 1e-6, 1e-4, 1e-2])
def test_bfloat16_search_finds_what_float32_finds_among_near_equals(close: float) -> None:
    """Twins of every atom differ by less than bfloat16 can tell."""
    atoms = embedding_like(300, 32)
    twins = torch.cat([atoms, atoms * (1 + close * normal(300, 1, seed=4))])
    residuals = embedding_like(200, 32, seed=8)
    found, exact = screened_search(twins)(residuals), exact_search(twins)(residuals)
    products = (residuals.double() @ twins.double().T).abs()
    assert torch.allclose(
        products.gather(1, found[:, None]), products.gather(1, exact[:, None]), rtol=1e-6, atol=0
    )
    if close >= 1e-4:
        assert torch.equal(found, exact)


def test_bfloat16_search_among_atoms_that_are_all_alike() -> None:
    atoms = torch.ones(2000, 8) + 1e-6 * normal(2000, 8)
    residuals = normal(4, 8, seed=1)
    assert torch.equal(screened_search(atoms)(residuals), exact_search(atoms)(residuals))
