"""New rows are noise, as in an untrained model: what every other method has to beat.

Source: the embeddings of a new vocabulary are learnt from scratch in arXiv 1910.11856.
"""

from __future__ import annotations

import torch
from pydantic import Field

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import used_ids
from tokenizer_tools.transfer import Transfer


class Parameters(NoParameters):
    """How large the noise is."""

    std: float | None = Field(
        None,
        gt=0,
        description="Standard deviation; by default that of the matrix. Many models start at 0.02.",
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """N(0, std)."""
    used, count = torch.from_numpy(used_ids(transfer.source)), len(transfer.new)

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        std = parameters.std or matrix_VH[used].float().std().item()
        generator = torch.Generator().manual_seed(transfer.seed)
        return (std * torch.randn(count, matrix_VH.shape[1], generator=generator)).to(matrix_VH.dtype)

    return rows


METHOD = Method(
    summary="normal noise as spread as the source rows",
    reference="https://arxiv.org/abs/1910.11856",
    prepare=prepare,
    parameters=Parameters,
)
