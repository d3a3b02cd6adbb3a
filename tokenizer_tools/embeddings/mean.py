"""Give every new token the mean of the source rows.

Source: J. Hewitt, "Initializing new word embeddings for pretrained language models" (2021). The mean bounds
the probability that new tokens take from old ones: KL(before || after) <= log(1 + N/V) for N new tokens and V
old ones.
"""

from __future__ import annotations

import torch

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import used_ids
from tokenizer_tools.transfer import Transfer


def prepare(transfer: Transfer, _parameters: NoParameters) -> Rule:
    """Return the rule of the mean of all rows that stand for a token; padding rows are left out."""
    used, count = torch.from_numpy(used_ids(transfer.source)), len(transfer.new)

    def rows(matrix_VH: torch.Tensor, _role: Role) -> torch.Tensor:
        return matrix_VH[used].float().mean(0).to(matrix_VH.dtype).repeat(count, 1)

    return rows


METHOD = Method(
    summary="mean of all source rows",
    reference="https://www.cs.columbia.edu/~johnhew/vocab-expansion.html",
    prepare=prepare,
)
