"""Weights of nearest tokens: sparsemax against brute force, softmax of the top, parts that change nothing."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

from tokenizer_tools.embeddings import _weights
from tokenizer_tools.embeddings._weights import (
    cosines,
    neighbour_weights,
    placed,
    sparsemax,
    top_softmax,
)


def scores(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """Of the projections on all faces, the nearest one that lies in the simplex."""
    best, least = np.zeros_like(point), np.inf
    for size in range(1, len(point) + 1):
        for face in combinations(range(len(point)), size):
            found = np.zeros_like(point)
            found[list(face)] = point[list(face)] - (point[list(face)].sum() - 1) / size
            if (found >= 0).all() and ((found - point) ** 2).sum() < least:
                best, least = found, ((found - point) ** 2).sum()
    return best


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 5.0])
def test_sparsemax_is_the_nearest_point_of_the_simplex(scale: float) -> None:
    points = scale * scores(50, 7)
    expected = np.array([nearest_on_simplex(point) for point in points.double().numpy()])
    assert np.allclose(sparsemax(points), expected, atol=1e-6)


def test_sparsemax_of_ends_and_middles() -> None:
    rows = torch.tensor([[0.0, 2.0, 0.5], [0.3, 0.3, 0.3], [0.6, 0.4, -1.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.4, 0.0]])
    assert torch.allclose(sparsemax(rows), expected)
    assert torch.allclose(sparsemax(rows + 7), expected, atol=1e-6)


def test_sparsemax_of_many() -> None:
    weights = sparsemax(0.2 * scores(20, 5000))
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(20), atol=1e-5)
    assert ((weights > 0).sum(1) < 100).all()


@pytest.mark.parametrize("support", [100, 128, 129, 600])
def test_sparsemax_with_a_large_support(support: int) -> None:
    row = torch.cat([torch.full((support,), 0.5), torch.full((700 - support,), 0.1)])
    weights = sparsemax(torch.stack([row, row.flip(0), scores(1, 700)[0]]))
    expected = (row == 0.5) / support
    assert torch.allclose(weights[:2], torch.stack([expected, expected.flip(0)]), atol=1e-6)
    assert torch.allclose(weights[2:], sparsemax(scores(1, 700)), atol=1e-6)


def test_top_softmax() -> None:
    weights = top_softmax(torch.tensor([[0.1, 0.5, 0.4, -1.0]]), count=2, temperature=0.1)
    expected = torch.tensor([5.0, 4.0]).softmax(0)
    assert torch.allclose(weights, torch.tensor([[0, expected[0], expected[1], 0]]))
    everything = top_softmax(scores(3, 4), count=9, temperature=2.0)
    assert torch.allclose(everything, (scores(3, 4) / 2).softmax(1))


def test_cosines() -> None:
    queries, keys = scores(5, 3), torch.cat([scores(4, 3, seed=1), torch.zeros(1, 3)])
    found = torch.cat(list(cosines(queries, keys)))
    assert torch.allclose(found[:, :4], torch.cosine_similarity(queries[:, None], keys[None, :4], dim=2))
    assert torch.equal(found[:, 4], torch.zeros(5))


@pytest.mark.parametrize("share", [sparsemax, partial(top_softmax, count=3, temperature=0.1)])
def test_parts_give_the_same_weights(share: _weights.Share, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = scores(23, 8), scores(40, 8, seed=1)
    dense = share(torch.cat(list(cosines(queries, keys))))
    monkeypatch.setattr(_weights, "_CHUNK_ELEMENTS", 200)
    assert len(list(cosines(queries, keys))) == 5
    weights = neighbour_weights(queries, keys, share)
    assert np.allclose(weights.toarray(), dense, atol=1e-6)
    assert weights.nnz == (dense != 0).sum()


def test_no_queries_have_no_weights() -> None:
    assert neighbour_weights(scores(0, 8), scores(4, 8), sparsemax).shape == (0, 4)
    assert neighbour_weights(scores(0, 8), scores(0, 8), sparsemax).shape == (0, 0)


def test_weights_are_placed_at_their_ids() -> None:
    weights = neighbour_weights(
        scores(2, 8), scores(3, 8, seed=1), partial(top_softmax, count=3, temperature=1)
    )
    found = placed(weights, np.array([1, 3]), np.array([5, 0, 2]), (4, 6)).toarray()
    expected = np.zeros((4, 6))
    expected[np.ix_([1, 3], [5, 0, 2])] = weights.toarray()
    assert (found == expected).all()
