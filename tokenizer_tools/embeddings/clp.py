"""Make a new token of the shared tokens that are similar in a small model with the target's tokenizer.

Source: CLP-Transfer, Ostendorff and Rehm (arXiv 2301.09626). With h the helper's rows and E the source's, a
new token t gets sum_o w_o E_o over shared tokens o, with w_o = cos(h_t, h_o) / sum_o' cos(h_t, h_o').

In the paper every shared token takes part, negative cosines too (`clip: false`, `top_k: null`). Then nearly
equal weights make every row nearly the mean of all, and if negative cosines cancel positive ones their sum is
near 0 and the row is huge. So negative ones are left out here, and all but the nearest few. Tokens
that the helper does not know, and those whose cosines have no sum to divide by, get the mean of their
pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, Role, Rule
from tokenizer_tools.embeddings._donor import DonorParameters, Landmarks, donor_rule
from tokenizer_tools.embeddings._weights import cosines, neighbour_weights, subtoken_rule, weighted_rows
from tokenizer_tools.transfer import Transfer

_NO_SUM = 1e-6


class Parameters(DonorParameters):
    """Parameters of CLP-Transfer."""

    clip: bool = Field(True, description="Leave out tokens with a negative cosine; the paper does not.")
    top_k: int | None = Field(
        5, gt=0, description="Number of similar shared tokens that take part; null is all, as in the paper."
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule of cosines in the helper, scaled to sum to 1."""

    def make(found: Landmarks) -> Rule:
        mixed = _mixture(found, parameters)
        known_N, among_known_K = found.known.copy(), mixed(torch.ones(len(found.shared), 1))[:, 0] != 0
        known_N[found.known] = among_known_K.numpy()
        by_pieces = subtoken_rule(transfer)

        def rows(matrix_VH: Tensor, role: Role) -> Tensor:
            rows_NH = by_pieces(matrix_VH, role)
            mixed_KH = mixed(matrix_VH[torch.from_numpy(found.shared)].float())
            rows_NH[torch.from_numpy(known_N)] = mixed_KH[among_known_K].to(matrix_VH.dtype)
            return rows_NH

        return rows

    return donor_rule(transfer, parameters, make)


def shares(cosines_QO: Tensor, clip: bool, top_k: int | None) -> Tensor:
    """Scale cosines [Q, O] to weights that sum to 1; all 0 if their sum is about 0."""
    kept_QO = cosines_QO.clamp(min=0) if clip else cosines_QO
    if top_k is not None:
        top_QK, places_QK = kept_QO.topk(min(top_k, kept_QO.shape[1]), dim=1)
        kept_QO = torch.zeros_like(kept_QO).scatter_(1, places_QK, top_QK)
    sum_Q1 = kept_QO.sum(1, keepdim=True)
    usable_Q1 = sum_Q1.abs() > _NO_SUM * kept_QO.abs().sum(1, keepdim=True)
    return (kept_QO / sum_Q1).masked_fill(~usable_Q1, 0)


def _mixture(found: Landmarks, parameters: Parameters) -> Callable[[Tensor], Tensor]:
    """Return a function: rows of shared tokens [O, H] float32 -> rows of known new tokens [K, H]."""
    share = partial(shares, clip=parameters.clip, top_k=parameters.top_k)
    if parameters.top_k is not None:
        return partial(weighted_rows, neighbour_weights(found.targets_KD, found.shared_OD, share))

    def mixed(shared_OH: Tensor) -> Tensor:
        parts = cosines(found.targets_KD, found.shared_OD)
        return torch.cat([share(cosines_CO) @ shared_OH for cosines_CO in parts])

    return mixed


METHOD = Method(
    summary="shared tokens that are similar in a small model with the target's tokenizer",
    reference="https://arxiv.org/abs/2301.09626",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
