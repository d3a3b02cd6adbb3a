"""Next-token cross entropy that never holds the logits of more than one chunk.

The gradient of the loss with respect to a chunk's logits is known as soon as the loss is, so it is taken
in the forward pass and multiplied into the gradients of the hidden states and of the head at once
(the idea of fused linear cross entropy: Liger Kernel, arXiv 2410.10989, section 3.2).

Shapes: T positions, C positions of a chunk, E hidden width, V rows of the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from cpt.packed.batch import IGNORED

CHUNK = 1024
"""Positions whose logits are held at once: 1024 x 49,152 float32 is 200 MB."""


def _chunks(
    hidden_TE: torch.Tensor, head_VE: torch.Tensor, labels_T: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Chunk by chunk: its rows, a [C, V] buffer in the head's precision, exp(logits - highest) [C, V], their
    sum [C, 1], and -ln p(label) [C]. The buffers are reused by every chunk: fresh memory is slow to touch."""
    size = min(CHUNK, len(labels_T))
    products = hidden_TE.new_empty(size, len(head_VE))
    exponentials = torch.empty_like(products, dtype=torch.float32)
    for start in range(0, len(labels_T), CHUNK):
        rows = slice(start, start + CHUNK)
        labels_C1 = labels_T[rows, None]
        products_CV, logits_CV = products[: len(labels_C1)], exponentials[: len(labels_C1)]
        logits_CV.copy_(torch.mm(hidden_TE[rows], head_VE.T, out=products_CV))
        highest_C1 = logits_CV.amax(-1, keepdim=True)
        wanted_C1 = logits_CV.gather(1, labels_C1)
        exponentials_CV = logits_CV.sub_(highest_C1).exp_()
        mass_C1 = exponentials_CV.sum(-1, keepdim=True)
        loss_C = (mass_C1.log() + highest_C1 - wanted_C1).squeeze(1)
        yield rows, products_CV, exponentials_CV, mass_C1, loss_C


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TE: torch.Tensor, head_VE: torch.Tensor, labels_T: torch.Tensor
    ) -> torch.Tensor:
        hidden = hidden_TE.to(head_VE.dtype)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_head = torch.zeros_like(head_VE, dtype=torch.float32) if wants_head else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows, products_CV, exponentials_CV, mass_C1, loss_C in _chunks(hidden, head_VE, labels_T):
            total += loss_C.sum()
            if not (wants_hidden or wants_head):
                continue
            softmax_CV = exponentials_CV.div_(mass_C1)
            softmax_CV.scatter_add_(1, labels_T[rows, None], torch.full_like(mass_C1, -1.0))
            grad_CV = products_CV.copy_(softmax_CV)
            if grad_hidden is not None:
                torch.mm(grad_CV, head_VE, out=grad_hidden[rows])
            if grad_head is not None:
                grad_head += grad_CV.T @ hidden[rows]
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
    kept = (labels_T != IGNORED).nonzero().squeeze(1)
    losses = torch.zeros(len(labels_T), device=hidden_TE.device)
    hidden = hidden_TE[kept].to(head_VE.dtype)
    losses[kept] = torch.cat([loss_C for *_, loss_C in _chunks(hidden, head_VE, labels_T[kept])])
    return losses
