"""Next-token cross entropy that never holds the logits of more than one chunk.

The gradient of the loss with respect to a chunk's logits is known as soon as the loss is, so it is taken
in the forward pass and multiplied into the gradients of the hidden states and of the head at once
(the idea of fused linear cross entropy: Liger Kernel, arXiv 2410.10989, section 3.2).

Shapes: T positions, C positions of a chunk, E hidden width, V rows of the head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from cpt.packed.batch import IGNORED

CHUNK = 1024
"""Positions whose logits are held at once: 1024 x 49,152 float32 is 200 MB."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TE: torch.Tensor, head_VE: torch.Tensor, labels_T: torch.Tensor
    ) -> torch.Tensor:
        hidden, head = hidden_TE.to(head_VE.dtype), head_VE
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_head = torch.zeros_like(head_VE, dtype=torch.float32) if wants_head else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = min(CHUNK, len(labels_T))
        products = hidden.new_empty(size, len(head))  # reused by every chunk: fresh memory is slow to touch
        softmax = torch.empty_like(products, dtype=torch.float32)
        for start in range(0, len(labels_T), CHUNK):
            hidden_CE, labels_C1 = hidden[start : start + CHUNK], labels_T[start : start + CHUNK, None]
            products_CV, softmax_CV = products[: len(labels_C1)], softmax[: len(labels_C1)]
            softmax_CV.copy_(torch.mm(hidden_CE, head.T, out=products_CV))
            highest_C1 = softmax_CV.amax(-1, keepdim=True)
            wanted_C1 = softmax_CV.gather(1, labels_C1)
            mass_C1 = softmax_CV.sub_(highest_C1).exp_().sum(-1, keepdim=True)
            total += (mass_C1.log() + highest_C1 - wanted_C1).sum()
            if not (wants_hidden or wants_head):
                continue
            softmax_CV.div_(mass_C1).scatter_add_(1, labels_C1, torch.full_like(mass_C1, -1.0))
            grad_CV = products_CV.copy_(softmax_CV)
            if grad_hidden is not None:
                torch.mm(grad_CV, head, out=grad_hidden[start : start + CHUNK])
            if grad_head is not None:
                grad_head += grad_CV.T @ hidden_CE
        ctx.gradients = (grad_hidden, grad_head)
        ctx.dtypes = (hidden_TE.dtype, head_VE.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = [
            None if grad is None else grad.to(dtype).mul_(scale.to(dtype))
            for grad, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = (None, None)
        return *grads, None


def summed_cross_entropy(
    hidden_TE: torch.Tensor, head_VE: torch.Tensor, labels_T: torch.Tensor
) -> torch.Tensor:
    """Sum of -ln p(label) in nats over the positions that have a label.

    Args:
        hidden_TE: last hidden states.
        head_VE: output embedding.
        labels_T: token ids, `IGNORED` where no loss is taken.

    The matrix products have the head's precision, the softmax is always float32.
    """
    kept = (labels_T != IGNORED).nonzero().squeeze(1)
    loss: torch.Tensor = _ChunkedCrossEntropy.apply(hidden_TE[kept], head_VE, labels_T[kept])
    return loss


@torch.no_grad()
def token_cross_entropy(
    hidden_TE: torch.Tensor, head_VE: torch.Tensor, labels_T: torch.Tensor
) -> torch.Tensor:
    """-ln p(label) in nats of every position, 0 where there is no label: [T] float32."""
    hidden = hidden_TE.to(head_VE.dtype)
    losses = [
        cross_entropy(
            (hidden[rows] @ head_VE.T).float(), labels_T[rows], ignore_index=IGNORED, reduction="none"
        )
        for rows in (slice(start, start + CHUNK) for start in range(0, len(labels_T), CHUNK))
    ]
    return torch.cat(losses)
