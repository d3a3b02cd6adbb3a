"""A loss and the output embedding in one, so that the logits of no more than one chunk are ever held.

The gradient of a loss with respect to a chunk's logits is known as soon as the loss is, so it takes the
logits' place in the forward pass and is multiplied into the gradients of the hidden states and of the head at
once (the idea of fused linear cross entropy: Liger Kernel, arXiv 2410.10989, section 3.2).

Shapes: N positions, C positions of a chunk, E hidden width, V rows of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from cpt.models.accumulate import accumulate

CHUNK = 1024
"""Positions whose logits are held at once: 1024 x 49,152 in bfloat16 are 100 MB."""

IN_CACHE = 2**20
"""Float32 numbers that a processor's cache holds."""

Chunk = tuple[slice, torch.Tensor, torch.Tensor]
"""Rows of the hidden states, their losses [C] in float32, and the gradient [C, V] of the sum of these."""

Chunks = Callable[[torch.Tensor, torch.Tensor, bool], Iterable[Chunk]]
"""The chunks of hidden states [N, E] and a head [V, E]; with gradients if the flag is set."""


def rows_at_once(logits_CV: torch.Tensor) -> int:
    """Rows of which float32 values are made at a time: on a CPU as many as its cache holds, else all."""
    if logits_CV.device.type == "cpu":
        return max(1, IN_CACHE // logits_CV.shape[1])
    return len(logits_CV)


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NE: torch.Tensor, head_VE: torch.Tensor, chunks: Chunks) -> torch.Tensor:
        hidden = hidden_NE.to(head_VE.dtype)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_head: torch.Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows, nats_C, grad_CV in chunks(hidden, head_VE, wants_hidden or wants_head):
            total += nats_C.sum()
            if grad_hidden is not None:
                torch.mm(grad_CV, head_VE, out=grad_hidden[rows])
            if wants_head:
                product = grad_CV.T @ hidden[rows]
                if grad_head is None:
                    several = len(hidden) > CHUNK  # whose products add up in float32
                    grad_head = product.float() if several else product
                else:
                    accumulate(grad_head, product)
        ctx.gradients = (grad_hidden, grad_head)
        ctx.dtypes = (hidden_NE.dtype, head_VE.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = [
            None if grad is None else grad.mul_(scale).to(dtype)
            for grad, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = (None, None)
        return *grads, None


def fused_loss(hidden_NE: torch.Tensor, head_VE: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """The sum of the chunks' losses: [] in float32.

    Args:
        hidden_NE: last hidden states.
        head_VE: output embedding. The matrix products have its precision.
        chunks: gets the hidden states in that precision.
    """
    loss: torch.Tensor = _FusedLoss.apply(hidden_NE, head_VE, chunks)
    return loss
