"""Log probabilities of labels, and of a set of tokens, as functions that can be differentiated.

A loss of sums of log probabilities knows its gradient only when all of them are there. So logits are computed
a second time in the backward pass, where their gradient replaces them: never are those of more than one chunk
of positions held.

Shapes: N positions, C positions of a chunk, R of a part of it, E hidden width, V rows of the head, S tokens
of a set.
"""

from __future__ import annotations

from typing import Any

import torch

from cpt.models.loss import CHUNK, add_product, chunk_of, rows_at_once

_LARGEST_EXPONENT = 80.0
"""Below that of the largest float32 number."""


def label_log_probabilities(
    hidden_NE: torch.Tensor, head_VE: torch.Tensor, labels_N: torch.Tensor, set_S: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ln p(label) and ln Σ_{v in set} p(v) in nats of every position: [N], [N] float32.

    The matrix products have the head's precision, what follows is float32.

    Args:
        hidden_NE: last hidden states.
        head_VE: output embedding.
        labels_N: token ids.
        set_S: token ids; without any, the second result is -inf.
    """
    in_set_V = torch.zeros(len(head_VE), dtype=torch.bool, device=head_VE.device).index_fill_(0, set_S, True)
    found: tuple[torch.Tensor, torch.Tensor] = _LogProbabilities.apply(hidden_NE, head_VE, labels_N, in_set_V)
    return found


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        head_VE: torch.Tensor,
        labels_N: torch.Tensor,
        in_set_V: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = hidden_NE.to(head_VE.dtype)
        label_N, mass_N, set_N = (
            torch.empty(len(hidden), dtype=torch.float32, device=hidden.device) for _ in range(3)
        )
        buffer = hidden.new_empty(min(CHUNK, len(hidden)), len(head_VE))
        for start in range(0, len(hidden), CHUNK):
            chunk = hidden[start : start + CHUNK]
            logits_CV = torch.mm(chunk, head_VE.T, out=buffer[: len(chunk)])
            size = rows_at_once(logits_CV)
            for first in range(0, len(chunk), size):
                logits_RV = logits_CV[first : first + size].float()
                rows = slice(start + first, start + first + len(logits_RV))
                label_N[rows] = logits_RV.gather(1, labels_N[rows, None]).squeeze(1)
                mass_N[rows] = logits_RV.logsumexp(-1)
                set_N[rows] = logits_RV.masked_fill_(~in_set_V, -torch.inf).logsumexp(-1)
        ctx.save_for_backward(hidden_NE, head_VE, labels_N, in_set_V, mass_N, set_N)
        return label_N - mass_N, set_N - mass_N

    @staticmethod
    def backward(
        ctx: Any, of_label_N: torch.Tensor, of_set_N: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """With respect to logit z_v: g (1[v = label] - p_v) + h (1[v in set] p_v / p(set) - p_v)."""
        hidden_NE, head_VE, labels_N, in_set_V, mass_N, set_N = ctx.saved_tensors
        hidden = hidden_NE.to(head_VE.dtype)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        size_of_chunk = chunk_of(head_VE)
        several = len(hidden) > size_of_chunk
        sums = torch.float32 if several else head_VE.dtype  # of the products of several chunks
        grad_head = torch.zeros_like(head_VE, dtype=sums) if wants_head else None
        both_N = of_label_N + of_set_N
        in_set_N = of_set_N * (mass_N - set_N).clamp(max=_LARGEST_EXPONENT).exp()  # h / p(set)
        buffer = hidden.new_empty(min(size_of_chunk, len(hidden)), len(head_VE))
        for start in range(0, len(hidden), size_of_chunk):
            chunk = hidden[start : start + size_of_chunk]
            grad_CV = torch.mm(chunk, head_VE.T, out=buffer[: len(chunk)])
            size = rows_at_once(grad_CV)
            for first in range(0, len(chunk), size):
                part_RV = grad_CV[first : first + size]
                rows = slice(start + first, start + first + len(part_RV))
                p_RV = (part_RV.float() - mass_N[rows, None]).exp_()
                p_RV *= torch.where(in_set_V, in_set_N[rows, None], 0) - both_N[rows, None]
                part_RV.copy_(p_RV.scatter_add_(1, labels_N[rows, None], of_label_N[rows, None]))
            if grad_hidden is not None:
                torch.mm(grad_CV, head_VE, out=grad_hidden[start : start + size_of_chunk])
            if grad_head is not None:
                add_product(grad_head, grad_CV, chunk)
        return (
            None if grad_hidden is None else grad_hidden.to(hidden_NE.dtype),
            None if grad_head is None else grad_head.to(head_VE.dtype),
            None,
            None,
        )
