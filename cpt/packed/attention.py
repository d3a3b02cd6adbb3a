"""Causal attention within documents, exact and without a mask.

Packed documents must not see each other. A block-diagonal mask over the whole row costs T² for what is
really Σ length². Here documents of similar length are gathered into small padded groups, and each
group is attended causally: padding comes after every real token, so no real query can see it.

Shapes: T tokens in the row, H query heads, K key-value heads, E head width; a group holds D documents of
at most L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from cpt.errors import StageFailed

NAME = "documents"
"""Name under which the attention is registered with transformers."""

LAYOUT = "document_layout"
"""Keyword argument of a model's forward that carries the layout to the attention."""

_LENGTH_STEP = 16
_LENGTH_RATIO = 1.25
_PRODUCTS_UP_TO = 384


@dataclass(frozen=True)
class DocumentLayout:
    """Where documents lie in a packed row, grouped by length.

    Attributes:
        lengths: tokens of each document, in row order.
        groups: per group [D, L] positions in the row; padding repeats the document's last position.
        restore: [T] for every position of the row its place in the groups' flattened concatenation.
    """

    lengths: tuple[int, ...]
    groups: tuple[torch.Tensor, ...]
    restore: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int]) -> DocumentLayout:
        """Group documents so that padding adds at most a quarter, or a few tokens, to each."""
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        restore = torch.empty(int(sizes.sum()), dtype=torch.long)
        groups: list[torch.Tensor] = []
        offset = 0
        for members in _by_length(lengths):
            width = int(sizes[members].max())
            steps = torch.arange(width)
            inside = torch.minimum(steps[None], sizes[members, None] - 1)
            group = starts[members, None] + inside  # [D, L]
            real = steps[None] < sizes[members, None]
            restore[group[real]] = offset + real.flatten().nonzero().squeeze(1)
            groups.append(group)
            offset += group.numel()
        return cls(tuple(lengths), tuple(groups), restore)

    def to(self, device: torch.device | str) -> DocumentLayout:
        """The same layout on another device."""
        return DocumentLayout(
            self.lengths, tuple(group.to(device) for group in self.groups), self.restore.to(device)
        )


def _by_length(lengths: Sequence[int]) -> list[torch.Tensor]:
    """Indices of documents in groups of similar length, longest first."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and longest <= max(lengths[index] * _LENGTH_RATIO, lengths[index] + _LENGTH_STEP):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [torch.tensor(group) for group in groups]


def attend_within_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: DocumentLayout,
    scaling: float,
    window: int | None = None,
) -> torch.Tensor:
    """Causal attention of every document to itself.

    Args:
        query: [1, H, T, E]; key, value: [1, K, T, E] with K dividing H.
        window: positions that a query may look back, itself included (sliding-window models).

    Returns:
        [1, T, H, E]
    """
    on_cpu = query.device.type == "cpu"
    query_THE, key_TKE, value_TKE = (x[0].transpose(0, 1) for x in (query * scaling, key, value))
    outputs: list[torch.Tensor] = []
    for group in layout.groups:
        shape = (*group.shape, -1, query.shape[-1])
        query_DHLE, key_DKLE, value_DKLE = (
            x.index_select(0, group.flatten()).view(shape).transpose(1, 2)
            for x in (query_THE, key_TKE, value_TKE)
        )
        length = group.shape[1]
        visible = None if window is None or length <= window else _visible(length, window, query.device)
        attend = _by_products if on_cpu and length <= _PRODUCTS_UP_TO else _by_kernel
        attended = attend(query_DHLE, key_DKLE, value_DKLE, visible)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # [D * L, H, E]
    return torch.cat(outputs).index_select(0, layout.restore)[None]


def _by_products(
    query_DHLE: torch.Tensor,
    key_DKLE: torch.Tensor,
    value_DKLE: torch.Tensor,
    visible_LL: torch.Tensor | None,
) -> torch.Tensor:
    """Attention spelled out as two matrix products: on a CPU, with documents of up to some 400 tokens, faster
    than the fused kernel (2.4 times with 60 tokens), whose backward pass is slow there."""
    D, H, L, E = query_DHLE.shape
    K = key_DKLE.shape[1]
    if visible_LL is None:
        visible_LL = _visible(L, L, query_DHLE.device)
    bias_LL = torch.zeros(L, L, dtype=query_DHLE.dtype, device=query_DHLE.device)
    bias_LL.masked_fill_(~visible_LL, float("-inf"))
    query = query_DHLE.reshape(D * K, H // K * L, E)
    scores = torch.bmm(query, key_DKLE.reshape(D * K, L, E).transpose(1, 2))
    weights = scores.view(D, H, L, L).add_(bias_LL).softmax(-1).view(D * K, H // K * L, L)
    return torch.bmm(weights, value_DKLE.reshape(D * K, L, E)).view(D, H, L, E)


def _by_kernel(
    query_DHLE: torch.Tensor,
    key_DKLE: torch.Tensor,
    value_DKLE: torch.Tensor,
    visible_LL: torch.Tensor | None,
) -> torch.Tensor:
    """Attention by the device's fused kernel."""
    return scaled_dot_product_attention(
        query_DHLE,
        key_DKLE,
        value_DKLE,
        attn_mask=visible_LL,
        is_causal=visible_LL is None,
        scale=1.0,
        enable_gqa=query_DHLE.shape[1] != key_DKLE.shape[1],
    )


def _visible(length: int, window: int, device: torch.device) -> torch.Tensor:
    """[L, L] whether a query (row) may see a key (column): at most `window` back, itself included."""
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps[None]
    return (distance >= 0) & (distance < window)


def refuse_unsupported(module: torch.nn.Module, options: Mapping[str, Any]) -> None:
    """Raise for what some models' attention does besides softmax(QKᵀ)V."""
    for unsupported in ("softcap", "s_aux", "position_bias"):
        if options.get(unsupported) is not None:
            raise StageFailed(
                f"{type(module).__name__} attends with {unsupported}, which is not supported yet"
            )


def _attention_interface(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The signature that transformers expects of an attention implementation."""
    refuse_unsupported(module, kwargs)
    if dropout:
        raise StageFailed("attention dropout is not supported with packed documents; set it to 0")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend_within_documents(query, key, value, kwargs[LAYOUT], scale, sliding_window), None


def no_mask(*args: Any, **kwargs: Any) -> None:
    """Documents are separated by their layout; transformers need not build a mask."""


def register() -> None:
    """Make the attention known to transformers under `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention_interface)
    AttentionMaskInterface.register(NAME, no_mask)
