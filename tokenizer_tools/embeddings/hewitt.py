"""New rows are drawn from the normal distribution that the shared rows have, mean and full covariance.

Source: J. Hewitt, "Initializing new word embeddings for pretrained language models" (2021). `scale`
multiplies the covariance: 1 draws rows as spread as the shared ones, 0 is their mean, and transformers'
`resize_token_embeddings(mean_resizing=True)` uses 1e-9, which tells new tokens apart and little more.
"""

from __future__ import annotations

import torch
from pydantic import Field

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import shared_or_used
from tokenizer_tools.transfer import Transfer


class Parameters(NoParameters):
    """How far draws lie from the mean."""

    scale: float = Field(1.0, ge=0, description="Factor of the covariance; transformers uses 1e-9.")


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """N(mean, scale * covariance) of the shared rows."""
    shared, count = torch.from_numpy(shared_or_used(transfer)), len(transfer.new)

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        mean_H, spread_HH = mean_and_spread(matrix_VH[shared].float())
        noise_NH = torch.randn(count, len(mean_H), generator=torch.Generator().manual_seed(transfer.seed))
        return (mean_H + parameters.scale**0.5 * noise_NH @ spread_HH).to(matrix_VH.dtype)

    return rows


def mean_and_spread(rows_OH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [H] of the rows, and the symmetric square root [H, H] of their covariance.

    The root is taken by eigenvalues, since fewer rows than dimensions make a singular covariance.
    """
    mean_H = rows_OH.mean(0)
    centred_OH = rows_OH - mean_H
    variance_H, axes_HH = torch.linalg.eigh(centred_OH.T @ centred_OH / len(rows_OH))
    return mean_H, axes_HH * variance_H.clamp(min=0).sqrt() @ axes_HH.T


METHOD = Method(
    summary="drawn from N(mean, covariance) of the shared rows",
    reference="https://www.cs.columbia.edu/~johnhew/vocab-expansion.html",
    prepare=prepare,
    parameters=Parameters,
)
