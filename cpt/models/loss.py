"""Cross entropy and divergence that never hold the logits of more than one chunk of positions.

The gradient of a loss with respect to a chunk's logits is known as soon as the loss is. It replaces the
logits in the forward pass and is multiplied into the gradients of the hidden states and of the head at once
(the idea of fused linear cross entropy: Liger Kernel, arXiv 2410.10989, section 3.2).

Shapes: N positions with a label, C positions of a chunk, R of a part of it, E hidden width, V rows of the
head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch

_PART = 2**22
"""Number of elements whose float32 copy (16 MB) an allocator still finds among freed memory."""


def accumulate(total: torch.Tensor, addend: torch.Tensor) -> None:
    """Add a gradient of lower precision to a float32 total in place, part by part.

    A float32 copy of a whole embedding would be fresh memory, which is slow to touch. A GPU makes no copy.
    """
    if on_gpu(total):
        total.add_(addend)
        return
    total, addend = torch.atleast_1d(total), torch.atleast_1d(addend)
    rows = max(1, _PART * len(total) // max(1, total.numel()))
    for into, part in zip(total.split(rows), addend.split(rows), strict=True):
        into.add_(part)


def on_gpu(tensor: torch.Tensor) -> bool:
    """Return True for a tensor on a GPU."""
    return tensor.device.type != "cpu"


def add_product(total_VE: torch.Tensor, grad_CV: torch.Tensor, hidden_CE: torch.Tensor) -> None:
    """Add grad_CV.T @ hidden_CE to a float32 total in place; a GPU makes no copy of the product."""
    if not (on_gpu(total_VE) and _adds_products(total_VE.device, grad_CV.dtype)):
        accumulate(total_VE, grad_CV.T @ hidden_CE)
    elif grad_CV.dtype == total_VE.dtype:
        total_VE.addmm_(grad_CV.T, hidden_CE)
    else:
        _add_wide(total_VE, grad_CV.T, hidden_CE)


def _add_wide(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    torch.addmm(total, left, right, out_dtype=total.dtype, out=total)


@cache
def _adds_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Return True if products of this type add up in float32 there: not so in each version of PyTorch."""
    if dtype == torch.float32:
        return True
    ones = torch.ones(16, 16, device=device, dtype=dtype)
    total = ones.float()
    try:
        _add_wide(total, ones, ones)
    except (RuntimeError, TypeError):
        return False
    return bool((total == 17).all())


CHUNK = 1024
"""Positions whose logits are held at once: 1024 x 49,152 in bfloat16 are 100 MB."""

_GPU_CHUNK, _GPU_LOGITS = 8192, 2**30
"""Positions whose logits a GPU holds at once where the head gets a gradient, and the largest number of their
logits (2 GB in bfloat16). The gradient, as large as the head in float32, is read and written for each chunk:
for each 1024 tokens of a model of 1B with 128,256 tokens that would be 2 GB."""

IN_CACHE, _ON_GPU = 2**20, 2**27
"""Numbers that get float32 copies at a time: what a processor's cache holds, and 512 MB on a GPU."""


def chunk_of(head_VE: torch.Tensor) -> int:
    """Return the number of positions whose logits are held at once where the head gets a gradient."""
    if not on_gpu(head_VE):
        return CHUNK
    return max(CHUNK, min(_GPU_CHUNK, _GPU_LOGITS // len(head_VE)))


Chunk = tuple[slice, torch.Tensor, torch.Tensor]
"""Rows of the hidden states, their losses [C] in float32, and the gradient [C, V] of the sum of these."""

Chunks = Callable[[torch.Tensor, torch.Tensor, bool], Iterable[Chunk]]
"""The chunks of hidden states [N, E] and a head [V, E]; with gradients if the flag is set."""


def rows_at_once(logits_CV: torch.Tensor) -> int:
    """Return the rows that get float32 values at a time."""
    return max(1, (_ON_GPU if on_gpu(logits_CV) else IN_CACHE) // logits_CV.shape[1])


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
                if grad_head is not None:
                    add_product(grad_head, grad_CV, hidden[rows])
                elif len(grad_CV) == len(hidden):
                    grad_head = grad_CV.T @ hidden
                else:  # the products of several chunks add up in float32
                    grad_head = (grad_CV.T @ hidden[rows]).float()
        if wants_head and grad_head is None:  # no targets: divided weights need a gradient in every process
            grad_head = torch.zeros_like(head_VE)
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
    """Return the sum of the chunks' losses [] in float32.

    Args:
        hidden_NE: last hidden states.
        head_VE: output embedding. The matrix products have its precision.
        chunks: gets the hidden states in that precision.
    """
    loss: torch.Tensor = _FusedLoss.apply(hidden_NE, head_VE, chunks)
    return loss


def _weighted(chunk: Chunk, weights_N: torch.Tensor | None) -> Chunk:
    """Multiply a chunk's losses, and its gradient in place, by the weights of its positions."""
    rows, nats_C, grad_CV = chunk
    if weights_N is None:
        return chunk
    weights_C = weights_N[rows]
    return rows, nats_C * weights_C, grad_CV.mul_(weights_C[:, None])


def _chunks(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    differentiate: bool,
    labels_N: torch.Tensor,
    weights_N: torch.Tensor | None = None,
) -> Iterator[Chunk]:
    """Yield the rows of each chunk, -ln p(label) [C] in float32, weighted, and a buffer [C, V].

    With `differentiate` the buffer holds the gradient of their sum with respect to the logits. Every chunk
    uses the same buffer: fresh memory is slow to touch.
    """
    chunk = chunk_of(head_VE) if differentiate else CHUNK
    buffer = hidden_NE.new_empty(min(chunk, len(labels_N)), len(head_VE))
    for start in range(0, len(labels_N), chunk):
        rows = slice(start, start + chunk)
        labels_C = labels_N[rows]
        logits_CV = torch.mm(hidden_NE[rows], head_VE.T, out=buffer[: len(labels_C)])
        size = rows_at_once(logits_CV)
        parts = zip(logits_CV.split(size), labels_C.split(size), strict=True)
        nats_C = torch.cat([_passes["nats"](*part, differentiate) for part in parts])
        yield _weighted((rows, nats_C, logits_CV), weights_N)


def _nats(logits_RV: torch.Tensor, labels_R: torch.Tensor, differentiate: bool) -> torch.Tensor:
    """Return -ln p(label) [R] in float32; with `differentiate` the logits become their gradient."""
    exact_RV, labels_R1 = logits_RV.float(), labels_R[:, None]
    highest_R1, wanted_R1 = exact_RV.amax(-1, keepdim=True), exact_RV.gather(1, labels_R1)
    softmax_RV = exact_RV.softmax(-1)
    largest_R1 = softmax_RV.amax(-1, keepdim=True)  # exp(0) / mass: one over the sum of exponentials
    if differentiate:
        logits_RV.copy_(softmax_RV.scatter_add_(1, labels_R1, torch.full_like(wanted_R1, -1.0)))
    return (highest_R1 - wanted_R1 - largest_R1.log()).squeeze(1)


def summed_cross_entropy(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    labels_N: torch.Tensor,
    weights_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of -ln p(label) in nats.

    Args:
        hidden_NE: last hidden states of the positions that have a label.
        head_VE: output embedding.
        labels_N: token ids.
        weights_N: float32 weights of the positions; all 1 if left out.

    The matrix products have the head's precision, the softmax is always float32.
    """
    return fused_loss(hidden_NE, head_VE, partial(_chunks, labels_N=labels_N, weights_N=weights_N))


@torch.no_grad()
def token_cross_entropy(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    """Return -ln p(label) in nats of every position: [N] float32."""
    chunks = _chunks(hidden_NE.to(head_VE.dtype), head_VE, False, labels_N)
    return torch.cat([torch.zeros(0, device=hidden_NE.device), *(nats_C for _, nats_C, _ in chunks)])


@torch.no_grad()
def score_labels(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, rows_S: torch.Tensor, labels_S: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ln p(label), and True if the label is the likeliest token, for one or more labels per position.

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
    for start in range(0, len(unique_U), CHUNK):
        stop = start + CHUNK
        first, last = torch.searchsorted(position_S, position_S.new_tensor([start, stop])).tolist()
        logits_CV = (hidden_NE[unique_U[start:stop]].to(head_VE.dtype) @ head_VE.T).float()
        here, labels = position_S[first:last] - start, labels_S[first:last]
        nats_S[first:last] = logits_CV[here, labels] - logits_CV.logsumexp(-1)[here]
        likeliest_S[first:last] = logits_CV.argmax(-1)[here] == labels
    return nats_S, likeliest_S


def summed_divergence(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    reference_hidden_NE: torch.Tensor,
    reference_head_VE: torch.Tensor,
    weights_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over positions of KL(p || q) = Σ_v p_v (ln p_v - ln q_v) in nats: 0, with no gradient, where p = q.

    Args:
        weights_N: float32 weights of the positions; all 1 if left out.

    p is what the hidden states and the head give, q what the reference's do. Only p's get a gradient: with
    respect to its logits it is p_v (ln p_v - ln q_v - KL(p || q)).

    The matrix products have the heads' precision, what follows is float32, and never of more than a chunk.
    """
    reference = (reference_hidden_NE.detach().to(reference_head_VE.dtype), reference_head_VE.detach())
    chunks = partial(_divergence_chunks, reference=reference, weights_N=weights_N)
    return fused_loss(hidden_NE, head_VE, chunks)


@torch.no_grad()
def _divergence_chunks(
    hidden_NE: torch.Tensor,
    head_VE: torch.Tensor,
    differentiate: bool,
    reference: tuple[torch.Tensor, torch.Tensor],
    weights_N: torch.Tensor | None,
) -> Iterator[Chunk]:
    chunk = max(CHUNK, chunk_of(head_VE) // 2) if differentiate else CHUNK  # logits of two models
    held = min(chunk, len(hidden_NE))
    p_buffer, q_buffer = (each.new_empty(held, len(head_VE)) for each in (hidden_NE, reference[0]))
    for start in range(0, len(hidden_NE), chunk):
        rows = slice(start, start + chunk)
        count = len(hidden_NE[rows])
        p_CV = torch.mm(hidden_NE[rows], head_VE.T, out=p_buffer[:count])
        q_CV = torch.mm(reference[0][rows], reference[1].T, out=q_buffer[:count])
        size = rows_at_once(p_CV)
        parts = zip(p_CV.split(size), q_CV.split(size), strict=True)
        nats_C = torch.cat([_passes["divergence"](*part, differentiate) for part in parts])
        yield _weighted((rows, nats_C, p_CV), weights_N)


def _divergence_nats(p_RV: torch.Tensor, q_RV: torch.Tensor, differentiate: bool) -> torch.Tensor:
    """Return KL(p || q) [R] in float32 of logits; if asked for, p's logits become the gradient of its sum."""
    ln_p_RV = p_RV.float().log_softmax(-1)
    excess_RV = ln_p_RV - q_RV.float().log_softmax(-1)
    probability_RV = ln_p_RV.exp_()
    nats_R1 = (probability_RV * excess_RV).sum(-1, keepdim=True)
    if differentiate:
        p_RV.copy_(excess_RV.sub_(nats_R1).mul_(probability_RV))
    return nats_R1.squeeze(1)


def _whole_nats(logits_RV: torch.Tensor, labels_R: torch.Tensor, differentiate: bool) -> torch.Tensor:
    """Compute what `_nats` does, by operations that a compiler makes one pass of."""
    exact_RV, labels_R1 = logits_RV.float(), labels_R[:, None]
    highest_R1 = exact_RV.amax(-1, keepdim=True)
    odds_RV = (exact_RV - highest_R1).exp()
    mass_R1 = odds_RV.sum(-1, keepdim=True)
    nats_R1 = highest_R1 - exact_RV.gather(1, labels_R1) + mass_R1.log()
    if differentiate:
        tokens_V = torch.arange(logits_RV.shape[1], device=logits_RV.device)
        logits_RV.copy_(odds_RV / mass_R1 - (tokens_V == labels_R1).float())
    return nats_R1.squeeze(1)


_passes: dict[str, Callable[..., torch.Tensor]] = {"nats": _nats, "divergence": _divergence_nats}
"""Functions that go over the logits of some positions, in float32."""


@contextmanager
def compiled_passes(backend: str) -> Iterator[None]:
    """Go over logits by compiled kernels inside the block: on a GPU once or twice instead of seven times.

    Args:
        backend: Name of torch's compiler.
    """
    before = dict(_passes)
    for name, function in {"nats": _whole_nats, "divergence": _divergence_nats}.items():
        _passes[name] = torch.compile(function, dynamic=True, backend=backend)
    try:
        yield
    finally:
        _passes.update(before)
