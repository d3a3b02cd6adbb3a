"""Causal attention within documents, exact and without a mask over the row.

Packed documents must not see each other. Each backend takes the whole row with its layout: `cpu_blockwise`
on a CPU, `varlen` on a GPU that has the kernel, `bucketed_sdpa` elsewhere. `trees` attends documents that
share a prefix.

Shapes: T tokens in the row, H query heads, K key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cpt.errors import StageFailed
from cpt.models.attention import bucketed_sdpa, cpu_blockwise, trees, varlen
from cpt.models.attention.layout import DocumentLayout, TreeLayout

__all__ = [
    "LAYOUT",
    "NAME",
    "DocumentLayout",
    "TreeLayout",
    "attend_within_documents",
    "choose_kernel",
    "refuse_unsupported",
    "register",
]

NAME = "documents"
"""Name under which the attention is registered with transformers."""

LAYOUT = "document_layout"
"""Keyword argument of a model's forward that carries the layout to the attention."""


def attend_within_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: DocumentLayout | TreeLayout,
    scaling: float,
    window: int | None = None,
) -> torch.Tensor:
    """Compute causal attention of every document to itself.

    Args:
        query: [1, H, T, E]; key, value: [1, K, T, E] with K dividing H.
        scaling: of the scores, before the softmax.
        window: positions that a query may look back, itself included (sliding-window models).

    Returns:
        [1, T, H, E]
    """
    if isinstance(layout, TreeLayout):
        return trees.attend(query, key, value, layout, scaling, window)
    return _backend(query)(query, key, value, layout, scaling, window)


def _backend(query: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Return the fastest backend for these queries."""
    if query.device.type == "cpu":
        return cpu_blockwise.attend
    return varlen.attend if varlen.supports(query) else bucketed_sdpa.attend


def choose_kernel(model: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Choose the fastest kernel for a model on a GPU; return a message about it, or nothing.

    Args:
        model: Causal language model.
        device: Device on which it computes.
        dtype: Data type of its activations.
    """
    if device.type != "cuda":
        return ""
    config, capability = model.config.get_text_config(), torch.cuda.get_device_capability(device)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if reason := varlen.obstacle(dtype, width, capability):
        return f"attention is slower than it could be, because it cannot use flash attention: {reason}"
    return varlen.activate_flash_attention_3(capability)


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
    """Compute attention with the signature that transformers expects."""
    refuse_unsupported(module, kwargs)
    if dropout:
        raise StageFailed("attention dropout is not supported with packed documents; set it to 0")
    if value.shape[-1] != query.shape[-1]:
        raise StageFailed(
            f"{type(module).__name__} attends with values of another width than its queries, which is not "
            "supported yet"
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend_within_documents(query, key, value, kwargs[LAYOUT], scale, sliding_window), None


def register() -> None:
    """Make the attention known to transformers under `NAME`.

    No function for masks is registered with it: documents are separated by their layout, and transformers
    then builds no mask (and does not look for documents in the positions, for which a GPU's host would wait).
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention_interface)
