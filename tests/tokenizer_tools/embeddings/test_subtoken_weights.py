"""Sparse weights and normal draws that methods share."""

import numpy as np
import torch
from made_transfers import PIECES, made_transfer, matrix

from tokenizer_tools.embeddings._weights import (
    normal_rows,
    shared_or_used,
    subtoken_rule,
    subtoken_weights,
    used_ids,
    weighted,
    weighted_rows,
)


def test_weights_are_shares_of_the_pieces() -> None:
    weights = subtoken_weights(made_transfer(), 8).toarray()
    expected = np.zeros((len(PIECES), 8))
    for row, pieces in enumerate(PIECES):
        for token_id in pieces:
            expected[row, token_id] += 1 / len(pieces)
    assert np.allclose(weights, expected)


def test_a_weight_function_sees_positions_and_lengths() -> None:
    seen = []

    def weight(positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        seen.append((positions.tolist(), lengths.tolist()))
        return positions + 1.0

    weights = subtoken_weights(made_transfer([[0, 1], [], [2, 0, 2]]), 6, weight).toarray()
    assert seen == [([0, 1, 0, 1, 2], [2, 2, 3, 3, 3])]
    assert np.allclose(weights[0], [1 / 3, 2 / 3, 0, 0, 0, 0])
    assert not weights[1].any()
    assert np.allclose(weights[2], [2 / 6, 0, 4 / 6, 0, 0, 0])


def test_a_token_without_pieces_has_the_mean_of_the_shared_rows() -> None:
    source = matrix()
    rows = subtoken_rule(made_transfer([[], [2]], shared=[1, 4]))(source, "input")
    assert torch.allclose(rows, torch.stack([source[[1, 4]].mean(0), source[2]]))
    none_shared = made_transfer([[]], source=["a", None, "b"], shared=[])
    assert shared_or_used(none_shared).tolist() == used_ids(none_shared.source).tolist() == [0, 2]
    assert torch.allclose(subtoken_rule(none_shared)(source, "input"), source[[0, 2]].mean(0, keepdim=True))


def test_weights_of_a_token_without_pieces_take_no_room() -> None:
    assert subtoken_weights(made_transfer([[]] * 50 + [[1, 2]]), 6).nnz == 2


def test_no_new_tokens_make_no_rows() -> None:
    weights = subtoken_weights(made_transfer([]), 6)
    assert weights.shape == (0, 6)
    assert weighted(weights)(matrix(), "input").shape == (0, 4)


def test_weights_apply_to_wide_matrices_with_padding_rows_as_a_dense_product_does() -> None:
    weights = subtoken_weights(made_transfer(), 6)
    wide = matrix(rows=9, width=1100)
    expected = torch.from_numpy(weights.toarray()).float() @ wide[:6]
    assert torch.allclose(weighted_rows(weights, wide), expected, atol=1e-6)


def test_half_precision_is_added_in_single_precision() -> None:
    source = torch.tensor([[256.0], [1.0]], dtype=torch.bfloat16)
    rows = subtoken_rule(made_transfer([[0, 0, 0, 1]], source=["a", "b"]))(source, "bias")
    assert rows.dtype == torch.bfloat16
    assert rows.item() == torch.tensor((256 * 3 + 1) / 4).bfloat16().item()


def test_normal_draws_have_the_mean_and_deviation_of_each_dimension() -> None:
    source = matrix(500, 3) * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([0.0, 10.0, 2.0])
    rows = normal_rows(source, 20_000, torch.Generator().manual_seed(1))
    assert torch.allclose(rows.mean(0), source.mean(0), atol=0.2)
    assert torch.allclose(rows.std(0), source.std(0), rtol=0.05)
    assert torch.equal(rows[:, 2], torch.full((20_000,), 2.0))
    assert normal_rows(source.bfloat16(), 1, torch.Generator()).dtype == torch.bfloat16
