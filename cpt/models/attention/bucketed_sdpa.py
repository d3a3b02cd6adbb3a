"""Attention by the device's own kernel (`scaled_dot_product_attention`), one group of documents at a time.

Shapes: T tokens, H query heads, K key-value heads, E head width; a group holds D documents of at most
L tokens.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from cpt.models.attention.layout import DocumentLayout, arrange


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
    arrangement = arrange(layout, 1)
    outputs: list[torch.Tensor] = []
    for group in arrangement.groups:
        shape = (group.documents, group.length, -1, query.shape[-1])
        query_DHLE, key_DKLE, value_DKLE = (
            x[0].transpose(0, 1).index_select(0, group.rows).view(shape).transpose(1, 2)
            for x in (query, key, value)
        )
        visible_LL = _visible(group.length, window, query.device) if window else None
        attended_DHLE = scaled_dot_product_attention(
            query_DHLE,
            key_DKLE,
            value_DKLE,
            attn_mask=visible_LL,
            is_causal=visible_LL is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(attended_DHLE.transpose(1, 2).flatten(0, 1))  # [D * L, H, E]
    return torch.cat(outputs).index_select(0, arrangement.restore)[None]


def _visible(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Return a mask [L, L]: True if a query (row) may see a key (column), at most `window` back."""
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps[None]
    return (distance >= 0) & (distance < window)
