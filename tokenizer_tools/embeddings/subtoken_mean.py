"""A new token's row is the mean of the rows of the tokens that it used to be."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tokenizer_tools.embeddings import Method


def subtoken_mean(source_VH: torch.Tensor, pieces: Sequence[Sequence[int]]) -> torch.Tensor:
    """Mean of the pieces' rows, taken in float32.

    Args:
        source_VH: [V, H] embedding rows of the old vocabulary.
        pieces: for each of the N new tokens its segmentation by the old tokenizer; none is empty.

    Returns:
        [N, H] in the source's data type.
    """
    lengths = torch.tensor([len(ids) for ids in pieces])
    flat = torch.tensor([token_id for ids in pieces for token_id in ids])
    owners = torch.arange(len(pieces)).repeat_interleave(lengths)
    sums = torch.zeros(len(pieces), source_VH.shape[1]).index_add_(0, owners, source_VH[flat].float())
    return (sums / lengths[:, None]).to(source_VH.dtype)


METHOD = Method(name="subtoken-mean", reference="https://arxiv.org/abs/2212.09535", rows=subtoken_mean)
