"""What many methods share: rows as weighted means of source rows, and rows drawn like the source rows.

Weights are sparse, [N new tokens, V source ids], and are applied to every vocabulary matrix alike, so an
output bias [V, 1] gets the same means as the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

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


def subtoken_rule(transfer: Transfer, weight: Weight | None = None) -> Rule:
    """A token's row is the mean of its pieces' rows; without pieces, of all rows of `shared_or_used`.

    Args:
        weight: a piece's share before its token's weights are made to sum to 1; equal shares by default.
    """
    weights_NV = subtoken_weights(transfer, len(transfer.source.tokens), weight)
    return weighted(weights_NV, shared_or_used(transfer))


def subtoken_weights(transfer: Transfer, columns: int, weight: Weight | None = None) -> csr_matrix:
    """Weights of the new tokens' pieces.

    Args:
        columns: V, at least every source id + 1.
        weight: as in `subtoken_rule`.

    Returns:
        [N, V] float64. Rows sum to 1; the row of a token without pieces is empty.
    """
    lengths = np.fromiter(map(len, transfer.pieces), np.int64, len(transfer.pieces))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.fromiter(chain.from_iterable(transfer.pieces), np.int64, starts[-1])
    positions = np.arange(len(ids)) - np.repeat(starts[:-1], lengths)
    shares = np.ones(len(ids)) if weight is None else weight(positions, np.repeat(lengths, lengths))
    weights = csr_matrix((shares, ids, starts), shape=(len(lengths), columns))
    weights.sum_duplicates()
    return normalised(weights)


def normalised(weights: csr_matrix) -> csr_matrix:
    """The weights with every row that is not empty divided by its sum."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    scaled = weights.copy()
    scaled.data = weights.data / np.repeat(sums, np.diff(weights.indptr))
    return scaled


def weighted(weights: csr_matrix, otherwise: np.ndarray | None = None) -> Rule:
    """The rule that applies weights [N, V] to any matrix, in float32; `otherwise` as in `weighted_rows`."""

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        return weighted_rows(weights, matrix_VH, otherwise).to(matrix_VH.dtype)

    return rows


def weighted_rows(
    weights: csr_matrix, matrix_VH: torch.Tensor, otherwise: np.ndarray | None = None
) -> torch.Tensor:
    """Weights [N, V] applied to the matrix's first V rows: [N, H] in float32.

    Args:
        otherwise: ids whose mean row tokens get that have no weights; such rows are 0 where it is None.
    """
    weights_NV = weights.astype(np.float32)
    blocks = matrix_VH[: weights.shape[1]].split(_COLUMNS, dim=1)
    rows_NH = torch.cat([torch.from_numpy(weights_NV @ block.float().numpy()) for block in blocks], dim=1)
    empty_N = torch.from_numpy(np.diff(weights.indptr) == 0)
    if otherwise is not None and empty_N.any():
        rows_NH[empty_N] = matrix_VH[torch.from_numpy(otherwise)].float().mean(0)
    return rows_NH


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
