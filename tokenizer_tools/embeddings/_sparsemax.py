"""Weights that a token gives to the tokens nearest to it, from the cosines of their vectors.

Sparsemax is Martins and Astudillo, "From softmax to sparsemax" (arXiv 1602.02068): the point of the simplex
that is nearest to the scores, which gives most of them no weight. All weights here are made in parts, so
that the cosines of all pairs are never in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

Share = Callable[[Tensor], Tensor]
"""Scores [Q, O] -> weights [Q, O], few of them not 0."""

_CHUNK_ELEMENTS = 2**23
_LIKELY_SUPPORT = 128


def sparsemax(scores_QO: Tensor) -> Tensor:
    """The nearest point of the simplex to each row: weights [Q, O] >= 0 that sum to 1.

    They are max(score - t, 0). Of the scores in descending order the first k are above t, k being the last
    place where the score is above (sum of the first k, less 1) / k, which is t. Few are, so few are sorted.
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
    """Softmax of each row's `count` highest scores, over the temperature; 0 for the others."""
    top_QK, places_QK = scores_QO.topk(min(count, scores_QO.shape[1]), dim=1)
    return torch.zeros_like(scores_QO).scatter_(1, places_QK, (top_QK / temperature).softmax(1))


def cosines(queries_QD: Tensor, keys_OD: Tensor) -> Iterator[Tensor]:
    """Cosines of queries and keys, some queries at a time: [*, O] float32. A zero vector's are 0."""
    units_OD = torch.nn.functional.normalize(keys_OD.float())
    for part_CD in queries_QD.float().split(max(1, _CHUNK_ELEMENTS // max(1, len(keys_OD)))):
        yield torch.nn.functional.normalize(part_CD) @ units_OD.T


def neighbour_weights(queries_QD: Tensor, keys_OD: Tensor, share: Share) -> csr_matrix:
    """[Q, O] float64: the weights that each query gives to the keys by their cosines."""
    if not len(queries_QD):
        return csr_matrix((0, len(keys_OD)))
    parts = [_sparse(share(cosines_CO)) for cosines_CO in cosines(queries_QD, keys_OD)]
    return vstack(parts, format="csr")


def placed(
    weights_QO: csr_matrix, rows_Q: np.ndarray, columns_O: np.ndarray, shape: tuple[int, int]
) -> csr_matrix:
    """The weights at these rows and columns of a matrix that is 0 elsewhere."""
    entries = weights_QO.tocoo()
    return csr_matrix((entries.data, (rows_Q[entries.row], columns_O[entries.col])), shape=shape)


def _sparse(weights_CO: Tensor) -> csr_matrix:
    rows, columns = weights_CO.nonzero(as_tuple=True)
    values = weights_CO[rows, columns].double()
    return csr_matrix((values.numpy(), (rows.numpy(), columns.numpy())), shape=tuple(weights_CO.shape))
