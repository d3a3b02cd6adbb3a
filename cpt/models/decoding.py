"""Attention of one new token per row to a cache, without copying the cache once per query head.

With grouped queries the stock kernel first repeats keys and values for every query head; a product per
key-value head needs no copy, and on a CPU that copy is most of the time of a long generation.

Shapes: B rows, L cached tokens, H query heads, K key-value heads, E head width.
"""

from __future__ import annotations

from typing import Any

import torch

from cpt.models.attention import refuse_unsupported

NAME = "one-token"
"""Name under which the attention is registered with transformers."""


def attend_to_cache(
    query_BH1E: torch.Tensor, key_BKLE: torch.Tensor, value_BKLE: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention of the newest token to all cached ones, itself included: [B, 1, H, E]."""
    B, H, _, E = query_BH1E.shape
    K, L = key_BKLE.shape[1:3]
    query = (query_BH1E * scaling).reshape(B * K, H // K, E)
    weights = torch.bmm(query, key_BKLE.reshape(B * K, L, E).transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, value_BKLE.reshape(B * K, L, E)).view(B, 1, H, E)


def _attention_interface(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    refuse_unsupported(module, kwargs)
    if query.shape[2] != 1:
        raise ValueError(f"{NAME} attention takes one token at a time, not {query.shape[2]}")
    if sliding_window:
        key, value = key[:, :, -sliding_window:], value[:, :, -sliding_window:]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend_to_cache(query, key, value, scale), None


def register() -> None:
    """Make the attention known to transformers under `NAME`; without a function for masks it builds none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention_interface)
