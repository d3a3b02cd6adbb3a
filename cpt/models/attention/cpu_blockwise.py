"""Attention spelled out as matrix products, a block of queries at a time: the fast path on a CPU.

There bfloat16 products run several times as fast per operation as the built-in fused kernel, above all
backwards. A block of queries meets only the keys that some of its queries see, so that nothing above the
diagonal or outside a sliding window is computed beyond the blocks' corners. Documents longer than
`_KEPT_UP_TO` recompute their attention weights in the backward pass (Dao et al. 2022, arXiv 2205.14135,
section 3.1), so memory grows with the length and not with its square. Products have the precision of the
queries, a softmax sums in float32.

Shapes: T tokens, K key-value heads, G query heads per key-value head, E head width; a group holds
B = documents x K sequences of L tokens; a block has N queries and sees M keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cpt.models.attention.layout import DocumentLayout, Group, arrange

_BLOCK = 128
"""Queries of a block."""

_KEPT_UP_TO = 384
"""Longest document whose attention weights are kept for the backward pass."""


@torch.compiler.disable  # loops over the lengths of documents: a graph for every row
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: DocumentLayout,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """See `cpt.models.attention.attend_within_documents`."""
    _, H, T, E = query.shape
    K = key.shape[1]
    query_rows = (query * scaling)[0].transpose(0, 1).reshape(T * K, H // K * E)
    key_rows, value_rows = (x[0].transpose(0, 1).reshape(T * K, E) for x in (key, value))
    attended: torch.Tensor = _Products.apply(query_rows, key_rows, value_rows, layout, K, window)
    return attended.view(1, T, H, E)


class _Products(torch.autograd.Function):
    """Over rows that each hold one token's keys, values or G queries of one key-value head."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: DocumentLayout,
        heads: int,
        window: int | None,
    ) -> torch.Tensor:
        arrangement = arrange(layout, heads)
        learns = any(ctx.needs_input_grad)
        outputs: list[torch.Tensor] = []
        kept: list[torch.Tensor] = []
        for group in arrangement.groups:
            query_BQE, key_BLE, value_BLE = _gathered(group, key.shape[1], query, key, value)
            output_BQE = torch.empty_like(query_BQE)
            for block in _blocks(query_BQE, key_BLE, window):
                weights_BNM = block.weights()
                output_BQE[:, block.queries] = weights_BNM @ value_BLE[:, block.keys]
                if learns and group.length <= _KEPT_UP_TO:
                    kept.append(weights_BNM)
            outputs.append(output_BQE.view(-1, query.shape[1]))
        ctx.save_for_backward(query, key, value, *kept)
        ctx.arrangement, ctx.window = arrangement, window
        return torch.cat(outputs).index_select(0, arrangement.restore)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        saved = iter(kept)
        gradients = []
        for group in ctx.arrangement.groups:
            query_BQE, key_BLE, value_BLE, grad_BQE = _gathered(group, key.shape[1], query, key, value, grad)
            grad_BQE.view(-1, grad.shape[1]).index_fill_(0, group.padding, 0)  # padding repeats a real row
            weights = saved if group.length <= _KEPT_UP_TO else None
            gradients.append(_group_gradients(query_BQE, key_BLE, value_BLE, grad_BQE, ctx.window, weights))
        joined = (
            torch.cat([x.view(-1, rows.shape[1]) for x in parts]).index_select(0, ctx.arrangement.restore)
            for parts, rows in zip(zip(*gradients, strict=True), (query, key, value), strict=True)
        )
        return *joined, None, None, None


def _gathered(group: Group, width: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Return the group's rows of tensors [T * K, heads * E] as [B, L * heads, E]."""
    sequences = len(group.rows) // group.length
    return [x.index_select(0, group.rows).view(sequences, -1, width) for x in tensors]


def _group_gradients(
    query_BQE: torch.Tensor,
    key_BLE: torch.Tensor,
    value_BLE: torch.Tensor,
    grad_BQE: torch.Tensor,
    window: int | None,
    kept: Iterator[torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of queries, keys and values; attention weights are those kept, or recomputed."""
    exact = torch.promote_types(key_BLE.dtype, torch.float32)  # blocks add up in at least float32
    grad_query = torch.empty_like(query_BQE)
    grad_key, grad_value = (torch.zeros_like(x, dtype=exact) for x in (key_BLE, value_BLE))
    for block in _blocks(query_BQE, key_BLE, window):
        weights_BNM = block.weights() if kept is None else next(kept)
        query_BNE, grad_BNE = query_BQE[:, block.queries], grad_BQE[:, block.queries]
        grad_value[:, block.keys] += weights_BNM.mT @ grad_BNE
        grad_weights_BNM = grad_BNE @ value_BLE[:, block.keys].mT
        grad_scores_BNM = torch.ops.aten._softmax_backward_data(
            grad_weights_BNM, weights_BNM, -1, weights_BNM.dtype
        )
        grad_query[:, block.queries] = grad_scores_BNM @ key_BLE[:, block.keys]
        grad_key[:, block.keys] += grad_scores_BNM.mT @ query_BNE
    return grad_query, grad_key.to(key_BLE.dtype), grad_value.to(value_BLE.dtype)


@dataclass(frozen=True)
class _Block:
    """Some positions' queries, and the keys that at least one of them sees.

    Attributes:
        query_BQE, key_BLE: all queries (G per position, side by side) and keys of the sequences.
        start, stop: the queries' positions.
        window: how many positions each sees at most, itself included.
    """

    query_BQE: torch.Tensor
    key_BLE: torch.Tensor
    start: int
    stop: int
    window: int

    @property
    def queries(self) -> slice:
        """Return the rows of the block's queries among all queries."""
        heads = self.query_BQE.shape[1] // self.key_BLE.shape[1]
        return slice(self.start * heads, self.stop * heads)

    @property
    def keys(self) -> slice:
        """Return the positions that some query of the block sees."""
        return slice(max(0, self.start + 1 - self.window), self.stop)

    def weights(self) -> torch.Tensor:
        """Return the attention weights [B, N, M]."""
        scores_BNM = self.query_BQE[:, self.queries] @ self.key_BLE[:, self.keys].mT
        self._hide(scores_BNM, slice(self.start, self.stop))
        if self.stop - self.window > self.keys.start:
            self._hide(scores_BNM, slice(self.keys.start, self.stop - self.window))
        return scores_BNM.softmax(-1)

    def _hide(self, scores_BNM: torch.Tensor, keys: slice) -> None:
        """Set to -inf the scores of those of the keys that lie ahead of a query or too far behind it."""
        distance = torch.arange(self.start, self.stop)[:, None] - torch.arange(keys.start, keys.stop)
        bias = torch.zeros(distance.shape, dtype=scores_BNM.dtype)
        bias.masked_fill_((distance < 0) | (distance >= self.window), -torch.inf)
        corner = slice(keys.start - self.keys.start, keys.stop - self.keys.start)
        by_position = scores_BNM.view(len(scores_BNM), self.stop - self.start, -1, scores_BNM.shape[2])
        by_position[..., corner] += bias[:, None]


def _blocks(query_BQE: torch.Tensor, key_BLE: torch.Tensor, window: int | None) -> Iterator[_Block]:
    """Return the sequences' blocks, first to last."""
    length = key_BLE.shape[1]
    for start in range(0, length, _BLOCK):
        yield _Block(query_BQE, key_BLE, start, min(start + _BLOCK, length), window or length)
