"""Kullback-Leibler divergence from another model's distributions, chunk by chunk (`cpt.models.fused`).

Shapes: N positions, C positions of a chunk, R of a part of it, E hidden width, V rows of the heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from cpt.models import fused
from cpt.models.fused import Chunk, fused_loss


def summed_divergence(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    reference_hidden_NE: torch.Tensor,
    reference_head_VE: torch.Tensor,
) -> torch.Tensor:
    """Sum over positions of KL(p || q) = Σ_v p_v (ln p_v - ln q_v) in nats: 0, with no gradient, where p = q.

    p is what the hidden states and the head give, q what the reference's do. Only p's get a gradient: with
    respect to its logits it is p_v (ln p_v - ln q_v - KL(p || q)).

    The matrix products have the heads' precision, what follows is float32, and never of more than a chunk.
    """
    reference = (reference_hidden_NE.detach().to(reference_head_VE.dtype), reference_head_VE.detach())
    return fused_loss(hidden_NE, head_VE, partial(_chunks, reference=reference))


@torch.no_grad()
def _chunks(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    differentiate: bool,
    reference: tuple[torch.Tensor, torch.Tensor],
) -> Iterator[Chunk]:
    held = min(fused.CHUNK, len(hidden_NE))
    p_buffer, q_buffer = (each.new_empty(held, len(head_VE)) for each in (hidden_NE, reference[0]))
    for start in range(0, len(hidden_NE), fused.CHUNK):
        rows = slice(start, start + fused.CHUNK)
        count = len(hidden_NE[rows])
        p_CV = torch.mm(hidden_NE[rows], head_VE.T, out=p_buffer[:count])
        q_CV = torch.mm(reference[0][rows], reference[1].T, out=q_buffer[:count])
        size = fused.rows_at_once(p_CV)
        parts = zip(p_CV.split(size), q_CV.split(size), strict=True)
        yield rows, torch.cat([_nats(*part, differentiate) for part in parts]), p_CV


def _nats(p_RV: torch.Tensor, q_RV: torch.Tensor, differentiate: bool) -> torch.Tensor:
    """KL(p || q) [R] in float32 of logits; if asked for, p's logits become the gradient of its sum."""
    ln_p_RV = p_RV.float().log_softmax(-1)
    excess_RV = ln_p_RV - q_RV.float().log_softmax(-1)
    probability_RV = ln_p_RV.exp_()
    nats_R1 = (probability_RV * excess_RV).sum(-1, keepdim=True)
    if differentiate:
        p_RV.copy_(excess_RV.sub_(nats_R1).mul_(probability_RV))
    return nats_R1.squeeze(1)
