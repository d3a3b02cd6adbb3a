"""Attention within trees of tokens: of a tree's trunk causally, of its branches by a mask.

Shapes: T tokens of the row, L of a tree, H query heads, K key-value heads, E head width; B = L - trunk.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from cpt.models.attention.layout import Tree, TreeLayout


@torch.compiler.disable  # loops over the lengths of documents: a graph for every row
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: TreeLayout,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """See `cpt.models.attention.attend_within_documents`; nothing is kept for a backward pass."""
    attention = partial(
        scaled_dot_product_attention, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    outputs: list[torch.Tensor] = []
    start = 0
    for tree in layout.trees:
        query_1HLE, key_1KLE, value_1KLE = (x[:, :, start : start + tree.length] for x in (query, key, value))
        if tree.trunk:
            trunk = slice(tree.trunk)
            visible_NN = _trunk_mask(tree, window)
            outputs.append(
                attention(
                    query_1HLE[:, :, trunk],
                    key_1KLE[:, :, trunk],
                    value_1KLE[:, :, trunk],
                    attn_mask=visible_NN,
                    is_causal=visible_NN is None,
                )
            )
        if tree.trunk < tree.length:
            branches_1HBE = query_1HLE[:, :, tree.trunk :]
            outputs.append(
                attention(branches_1HBE, key_1KLE, value_1KLE, attn_mask=_branch_mask(tree, window))
            )
        start += tree.length
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _trunk_mask(tree: Tree, window: int | None) -> torch.Tensor | None:
    """Return a mask [trunk, trunk], or None if every token sees all before it."""
    if window is None or tree.trunk <= window:
        return None
    distance = tree.depth[: tree.trunk, None] - tree.depth[: tree.trunk]
    return (distance >= 0) & (distance < window)


def _branch_mask(tree: Tree, window: int | None) -> torch.Tensor:
    """Return a mask [B, L]."""
    if window is None:
        return tree.visible
    return tree.visible & (tree.depth[tree.trunk :, None] - tree.depth < window)
