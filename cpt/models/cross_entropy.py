"""Next-token cross entropy that never holds the logits of more than one chunk (`cpt.models.fused`).

Shapes: N positions with a label, C positions of a chunk, R of a part of it, E hidden width, V rows of the
head.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from cpt.models import fused
from cpt.models.fused import Chunk, fused_loss


def _chunks(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, differentiate: bool, labels_N: torch.Tensor
) -> Iterator[Chunk]:
    """Chunk by chunk: its rows, -ln p(label) [C] in float32, and a [C, V] buffer that holds, if asked for,
    the gradient of their sum with respect to the logits. Every chunk uses the same buffer: fresh memory is
    slow to touch."""
    buffer = hidden_NE.new_empty(min(fused.CHUNK, len(labels_N)), len(head_VE))
    for start in range(0, len(labels_N), fused.CHUNK):
        rows = slice(start, start + fused.CHUNK)
        labels_C = labels_N[rows]
        logits_CV = torch.mm(hidden_NE[rows], head_VE.T, out=buffer[: len(labels_C)])
        size = fused.rows_at_once(logits_CV)
        parts = zip(logits_CV.split(size), labels_C.split(size), strict=True)
        yield rows, torch.cat([_nats(*part, differentiate) for part in parts]), logits_CV


def _nats(logits_RV: torch.Tensor, labels_R: torch.Tensor, differentiate: bool) -> torch.Tensor:
    """-ln p(label) [R] in float32; if asked for, the logits become their gradient: softmax less one-hot."""
    exact_RV, labels_R1 = logits_RV.float(), labels_R[:, None]
    highest_R1, wanted_R1 = exact_RV.amax(-1, keepdim=True), exact_RV.gather(1, labels_R1)
    softmax_RV = exact_RV.softmax(-1)
    largest_R1 = softmax_RV.amax(-1, keepdim=True)  # exp(0) / mass: one over the sum of exponentials
    if differentiate:
        logits_RV.copy_(softmax_RV.scatter_add_(1, labels_R1, torch.full_like(wanted_R1, -1.0)))
    return (highest_R1 - wanted_R1 - largest_R1.log()).squeeze(1)


def summed_cross_entropy(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    """Sum of -ln p(label) in nats.

    Args:
        hidden_NE: last hidden states of the positions that have a label.
        head_VE: output embedding.
        labels_N: token ids.

    The matrix products have the head's precision, the softmax is always float32.
    """
    return fused_loss(hidden_NE, head_VE, partial(_chunks, labels_N=labels_N))


@torch.no_grad()
def token_cross_entropy(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    """-ln p(label) in nats of every position: [N] float32."""
    chunks = _chunks(hidden_NE.to(head_VE.dtype), head_VE, False, labels_N)
    return torch.cat([torch.zeros(0, device=hidden_NE.device), *(nats_C for _, nats_C, _ in chunks)])


@torch.no_grad()
def score_labels(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, rows_S: torch.Tensor, labels_S: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """ln p(label) and whether the label is the likeliest token, for several labels of a position or one.

    Args:
        hidden_NE: last hidden states.
        head_VE: output embedding.
        rows_S: the position of each label, in ascending order.
        labels_S: token ids.

    Returns:
        [S] float32 nats (negative or 0), [S] bool.
    """
    unique_U, position_S = torch.unique_consecutive(rows_S, return_inverse=True)
    nats_S = torch.empty(len(rows_S), device=hidden_NE.device)
    likeliest_S = torch.empty(len(rows_S), dtype=torch.bool, device=hidden_NE.device)
    for start in range(0, len(unique_U), fused.CHUNK):
        stop = start + fused.CHUNK
        first, last = torch.searchsorted(position_S, position_S.new_tensor([start, stop])).tolist()
        logits_CV = (hidden_NE[unique_U[start:stop]].to(head_VE.dtype) @ head_VE.T).float()
        here, labels = position_S[first:last] - start, labels_S[first:last]
        nats_S[first:last] = logits_CV[here, labels] - logits_CV.logsumexp(-1)[here]
        likeliest_S[first:last] = logits_CV.argmax(-1)[here] == labels
    return nats_S, likeliest_S
