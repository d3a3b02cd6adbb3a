"""Make new rows as weighted means of source rows, or draw them like source rows.

Weights are sparse, [N new tokens, V source ids], and are applied to every vocabulary matrix alike, so an
output bias [V, 1] gets the same means as the embeddings.

Weights of the nearest tokens come from the cosines of their vectors. Sparsemax is Martins and Astudillo,
"From softmax to sparsemax" (arXiv 1602.02068): the point of the simplex nearest to the scores, which gives
most of them no weight. These weights are made in parts, so the cosines of all pairs are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from tokenizer_tools.embeddings import Role, Rule
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary

Weight = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Function (positions [P] of pieces in their tokens, from 0; lengths [P] of those tokens in pieces) -> [P]
weights >= 0, not all 0 within a token."""

_COLUMNS = 512


def subtoken_rule(transfer: Transfer, weight: Weight | None = None) -> Rule:
    """Return the rule of the mean of a token's pieces; without pieces, of all rows of `shared_or_used`.

    Args:
        transfer: Transfer to the new vocabulary.
        weight: Weight of a piece before its token's weights are scaled to sum to 1; by default equal.
    """
    weights_NV = subtoken_weights(transfer, len(transfer.source.tokens), weight)
    return weighted(weights_NV, shared_or_used(transfer))


def subtoken_weights(transfer: Transfer, columns: int, weight: Weight | None = None) -> csr_matrix:
    """Return the weights of the new tokens' pieces.

    Args:
        transfer: Transfer to the new vocabulary.
        columns: Number of columns V, larger than every source id.
        weight: Weight of a piece, as in `subtoken_rule`.

    Returns:
        Weights [N, V] float64. Rows sum to 1; the row of a token without pieces is empty.
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
    """Return the weights with every row that is not empty divided by its sum."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    scaled = weights.copy()
    scaled.data = weights.data / np.repeat(sums, np.diff(weights.indptr))
    return scaled


def weighted(weights: csr_matrix, otherwise: np.ndarray | None = None) -> Rule:
    """Return the rule that applies weights [N, V] in float32; `otherwise` as in `weighted_rows`."""

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        return weighted_rows(weights, matrix_VH, otherwise).to(matrix_VH.dtype)

    return rows


def weighted_rows(
    weights: csr_matrix, matrix_VH: torch.Tensor, otherwise: np.ndarray | None = None
) -> torch.Tensor:
    """Apply weights [N, V] to a matrix's first V rows: [N, H] in float32.

    Args:
        weights: Sparse weights.
        matrix_VH: Source rows.
        otherwise: Ids whose mean row a token without weights gets; None gives it a row of zeros.
    """
    weights_NV = weights.astype(np.float32)
    blocks = matrix_VH[: weights.shape[1]].split(_COLUMNS, dim=1)
    rows_NH = torch.cat([torch.from_numpy(weights_NV @ block.float().numpy()) for block in blocks], dim=1)
    empty_N = torch.from_numpy(np.diff(weights.indptr) == 0)
    if otherwise is not None and empty_N.any():
        rows_NH[empty_N] = matrix_VH[torch.from_numpy(otherwise)].float().mean(0)
    return rows_NH


def normal_rows(matrix_VH: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw rows from a normal distribution with each dimension's mean and standard deviation.

    Returns:
        Rows [count, H] in the matrix's data type.
    """
    rows_VH = matrix_VH.float()
    std_H, mean_H = torch.std_mean(rows_VH, dim=0, correction=0)
    noise = torch.randn(count, rows_VH.shape[1], generator=generator)
    return (mean_H + std_H * noise).to(matrix_VH.dtype)


def shared_or_used(transfer: Transfer) -> np.ndarray:
    """Return the source ids [O] of shared tokens; all used ids if the vocabularies share none."""
    return transfer.shared_source if len(transfer.shared_source) else used_ids(transfer.source)


def used_ids(vocabulary: Vocabulary) -> np.ndarray:
    """Return the ids [U] that stand for a token; the others are padding rows."""
    return np.array([i for i, token in enumerate(vocabulary.tokens) if token is not None], np.int64)


Share = Callable[[Tensor], Tensor]
"""Function: scores [Q, O] -> weights [Q, O], few of them not 0."""

_CHUNK_ELEMENTS = 2**23
_LIKELY_SUPPORT = 128


def sparsemax(scores_QO: Tensor) -> Tensor:
    """Project each row to the nearest point of the simplex: weights [Q, O] >= 0 that sum to 1.

    They are max(score - t, 0) with t = (sum of the first k scores - 1) / k, scores in descending order, and k
    the last place with a score above its t. k is small, so only the largest scores are sorted.
    """
    count = _LIKELY_SUPPORT
    while True:
        sorted_QK = scores_QO.topk(min(count, scores_QO.shape[1]), dim=1).values
        threshold_QK = (sorted_QK.cumsum(1) - 1) / torch.arange(1, sorted_QK.shape[1] + 1)
        support_Q1 = (sorted_QK > threshold_QK).sum(1, keepdim=True)
        if count >= scores_QO.shape[1] or (support_Q1 < count).all():
            return (scores_QO - threshold_QK.gather(1, support_Q1 - 1)).clamp(min=0)
        count *= 4


def top_softmax(scores_QO: Tensor, count: int, temperature: float) -> Tensor:
    """Compute the softmax of each row's `count` highest scores over the temperature; 0 for the others."""
    top_QK, places_QK = scores_QO.topk(min(count, scores_QO.shape[1]), dim=1)
    return torch.zeros_like(scores_QO).scatter_(1, places_QK, (top_QK / temperature).softmax(1))


def cosines(queries_QD: Tensor, keys_OD: Tensor) -> Iterator[Tensor]:
    """Yield cosines of queries and keys, some queries at a time: [*, O] float32. A zero vector gives 0."""
    units_OD = torch.nn.functional.normalize(keys_OD.float())
    for part_CD in queries_QD.float().split(max(1, _CHUNK_ELEMENTS // max(1, len(keys_OD)))):
        yield torch.nn.functional.normalize(part_CD) @ units_OD.T


def neighbour_weights(queries_QD: Tensor, keys_OD: Tensor, share: Share) -> csr_matrix:
    """Compute the weights [Q, O] float64 that each query gives to the keys by their cosines."""
    if not len(queries_QD):
        return csr_matrix((0, len(keys_OD)))
    parts = [_sparse(share(cosines_CO)) for cosines_CO in cosines(queries_QD, keys_OD)]
    return vstack(parts, format="csr")


def placed(
    weights_QO: csr_matrix, rows_Q: np.ndarray, columns_O: np.ndarray, shape: tuple[int, int]
) -> csr_matrix:
    """Place weights at rows and columns of a larger sparse matrix."""
    entries = weights_QO.tocoo()
    return csr_matrix((entries.data, (rows_Q[entries.row], columns_O[entries.col])), shape=shape)


def _sparse(weights_CO: Tensor) -> csr_matrix:
    rows, columns = weights_CO.nonzero(as_tuple=True)
    values = weights_CO[rows, columns].double()
    return csr_matrix((values.numpy(), (rows.numpy(), columns.numpy())), shape=tuple(weights_CO.shape))
