"""What many methods share: rows as weighted means of source rows, and rows drawn like the source rows.

Weights are sparse, [N new tokens, V source ids], and are applied to every vocabulary matrix alike, so an
output bias [V, 1] gets the same means as the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix

from tokenizer_tools.embeddings import Role, Rule
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary

Weight = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(positions [P] of pieces in their tokens, from 0; lengths [P] of those tokens in pieces) -> [P] weights
>= 0, not all 0 within a token."""

_COLUMNS = 512


def subtoken_weights(transfer: Transfer, columns: int, weight: Weight | None = None) -> csr_matrix:
    """Weights of the new tokens' pieces.

    Args:
        columns: V, at least every source id + 1.
        weight: a piece's share before its token's weights are made to sum to 1; equal shares by default.

    Returns:
        [N, V] float64, rows sum to 1. A token without pieces has equal weights on all of
        `shared_or_used`.
    """
    fallback = shared_or_used(transfer)
    pieces = [ids if len(ids) else fallback for ids in transfer.pieces]
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([np.asarray(ids, np.int64) for ids in pieces] or [np.empty(0, np.int64)])
    spelt = np.repeat([len(ids) > 0 for ids in transfer.pieces], lengths)
    shares = np.ones(len(ids))
    if weight is not None:
        positions = np.arange(len(ids)) - np.repeat(starts[:-1], lengths)
        shares[spelt] = weight(positions[spelt], np.repeat(lengths, lengths)[spelt])
    weights = csr_matrix((shares, ids, starts), shape=(len(pieces), columns))
    weights.sum_duplicates()
    return normalised(weights)


def normalised(weights: csr_matrix) -> csr_matrix:
    """The weights with every row divided by its sum."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    scaled = weights.copy()
    scaled.data = weights.data / np.repeat(sums, np.diff(weights.indptr))
    return scaled


def weighted(weights: csr_matrix) -> Rule:
    """The rule that applies weights [N, V] to any matrix, in float32."""

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        return weighted_rows(weights, matrix_VH).to(matrix_VH.dtype)

    return rows


def weighted_rows(weights: csr_matrix, matrix_VH: torch.Tensor) -> torch.Tensor:
    """Weights [N, V] applied to the matrix's first V rows: [N, H] in float32."""
    weights_NV = weights.astype(np.float32)
    blocks = matrix_VH[: weights.shape[1]].split(_COLUMNS, dim=1)
    return torch.cat([torch.from_numpy(weights_NV @ block.float().numpy()) for block in blocks], dim=1)


def normal_rows(matrix_VH: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws from a normal distribution with each dimension's mean and standard deviation over the rows.

    Returns:
        [count, H] in the matrix's data type.
    """
    rows_VH = matrix_VH.float()
    std_H, mean_H = torch.std_mean(rows_VH, dim=0, correction=0)
    noise = torch.randn(count, rows_VH.shape[1], generator=generator)
    return (mean_H + std_H * noise).to(matrix_VH.dtype)


def shared_or_used(transfer: Transfer) -> np.ndarray:
    """[O] source ids of the tokens that both vocabularies have; all used ones where they share none."""
    return transfer.shared_source if len(transfer.shared_source) else used_ids(transfer.source)


def used_ids(vocabulary: Vocabulary) -> np.ndarray:
    """[U] ids that stand for a token; the others are padding rows."""
    return np.array([i for i, token in enumerate(vocabulary.tokens) if token is not None], np.int64)
