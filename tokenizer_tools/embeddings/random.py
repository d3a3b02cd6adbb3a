"""Draw new rows as noise, as in an untrained model: the baseline of every other method.

Source: arXiv 1910.11856 learns the embeddings of a new vocabulary from scratch.
"""

from __future__ import annotations

import torch
from pydantic import Field

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import used_ids
from tokenizer_tools.transfer import Transfer


class Parameters(NoParameters):
    """Parameters of the noise."""

    std: float | None = Field(
        None,
        gt=0,
        description="Standard deviation; by default that of the matrix. Many models start at 0.02.",
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule that draws from N(0, std)."""
    used, count = torch.from_numpy(used_ids(transfer.source)), len(transfer.new)

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        std = parameters.std or matrix_VH[used].float().std().item()
        generator = torch.Generator().manual_seed(transfer.seed)
        return (std * torch.randn(count, matrix_VH.shape[1], generator=generator)).to(matrix_VH.dtype)

    return rows


METHOD = Method(
    summary="normal noise with the standard deviation of the source rows",
    reference="https://arxiv.org/abs/1910.11856",
    prepare=prepare,
    parameters=Parameters,
)
